-- rowcast.resume() -> boolean
-- Ends rowcast.pause(): changes are captured again, and subscribers are told `gap`. False where capture was not paused.
-- tables touched: rowcast.setting (delete), rowcast.segment (select), rowcast.installation (update), sequence
-- rowcast.capture_state
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
  perform rowcast.write_to(number) from rowcast.segment where opened_at is not null order by opened_at desc limit 1;
  perform rowcast.note_left_out();
  return true;
end $$;
comment on function rowcast.resume() is 'ends rowcast.pause(): changes are captured again';
