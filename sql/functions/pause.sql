-- rowcast.pause() -> void
-- For an emergency: from now on no change is captured, in any session, open transactions included. Takes no lock on any
-- table of the application. rowcast.resume() ends it; subscribers are then told `gap`, for what was left out is lost to
-- them. A pause that is rolled back is ended by the next rowcast.prune(), as by rowcast.resume().
-- tables touched: rowcast.installation (lock), rowcast.setting (insert), rowcast.segment (select), rowcast.outbox_0..2
-- (insert), sequences
-- rowcast.capture_state, capture_state_brief
create or replace function rowcast.pause() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  before text := current_setting('lock_timeout');
begin
  -- at once, whichever session holds the lock; once more under it, as rowcast.prune may have set the state meanwhile
  perform setval('rowcast.capture_state', last_value % 3 + 6) from rowcast.capture_state;
  perform setval('rowcast.capture_state_brief', last_value % 3 + 6) from rowcast.capture_state_brief;
  perform from rowcast.installation for update;
  perform setval(
    case when number < 3 then 'rowcast.capture_state' else 'rowcast.capture_state_brief' end,
    number % 3 + 6)
    from (select distinct on (number / 3) number
            from rowcast.segment
           where opened_at is not null
           order by number / 3, opened_at desc) current;
  insert into rowcast.setting (name, value)
    values ('paused', clock_timestamp()::text) on conflict on constraint setting_pkey do nothing;
  -- which users are members is not known from now on. A hint: relays look each ten seconds, and an outbox that cannot
  -- be written is a reason for a pause, not against it
  begin
    perform set_config('lock_timeout', '200ms', true);
    perform rowcast.tell_policy('');
  exception when others then
    null;
  end;
  perform set_config('lock_timeout', before, true);
end $$;
comment on function rowcast.pause() is
  'stops capture at once, of every table, without a lock on any of them; rowcast.resume() ends it';
