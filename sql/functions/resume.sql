-- rowcast.resume() -> boolean
-- Ends rowcast.pause(): changes are captured again, and subscribers are told `gap`. False where capture was not paused.
-- tables touched: rowcast.setting (delete), rowcast.segment (select), rowcast.installation (update), sequences
-- rowcast.capture_state, capture_state_brief
create or replace function rowcast.resume() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'capture cannot be resumed in a transaction that keeps one snapshot'
      using errcode = 'invalid_transaction_state', hint = 'call it at read committed, the default';
  end if;
  perform from rowcast.installation for update;
  delete from rowcast.setting where name = 'paused';
  if not found and (select last_value from rowcast.capture_state) < 6 then
    return false;
  end if;
  -- the floor is everybody's, also of tables that are kept briefly
  perform setval('rowcast.capture_state_brief', last_value % 3) from rowcast.capture_state_brief;
  perform rowcast.write_to(number)
    from (select distinct on (number / 3) number
            from rowcast.segment
           where opened_at is not null
           order by number / 3, opened_at desc) current;
  -- a transaction that still runs now may have left something out since an earlier pause, too
  update rowcast.installation set left_out_until = null;
  perform rowcast.note_left_out(false);
  return true;
end $$;
comment on function rowcast.resume() is 'ends rowcast.pause(): changes are captured again';
