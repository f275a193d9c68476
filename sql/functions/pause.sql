-- rowcast.pause() -> void
-- For an emergency: from now on no change is captured, in any session, open transactions included. Takes no lock on any
-- table of the application. rowcast.resume() ends it; subscribers are then told `gap`, for what was left out is lost to
-- them. A pause that is rolled back is ended by the next rowcast.prune(), as by rowcast.resume().
-- tables touched: rowcast.installation (lock), rowcast.setting (insert), rowcast.segment (select), sequence
-- rowcast.capture_state
create or replace function rowcast.pause() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  segment int;
begin
  -- at once, whoever holds the lock; and once more under it, as rowcast.prune may have set the state meanwhile
  perform setval('rowcast.capture_state', last_value % 3 + 6) from rowcast.capture_state;
  perform from rowcast.installation for update;
  select number into segment from rowcast.segment where opened_at is not null order by opened_at desc limit 1;
  perform setval('rowcast.capture_state', segment + 6);
  insert into rowcast.setting (name, value)
    values ('paused', clock_timestamp()::text) on conflict on constraint setting_pkey do nothing;
end $$;
comment on function rowcast.pause() is
  'stops capture at once, of every table, without a lock; rowcast.resume() ends it';
