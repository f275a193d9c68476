-- rowcast.pause() -> void
-- For an emergency: from now on no change is captured, in any session, open transactions included. Takes no lock on any
-- table, and does not wait. rowcast.resume() ends it; subscribers are then told `gap`, for what was left out is lost to
-- them. Not undone by a rollback.
-- tables touched: rowcast.setting (insert), rowcast.segment (select), sequence rowcast.capture_state
create or replace function rowcast.pause() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform setval('rowcast.capture_state', (select number from rowcast.segment where opened_at is not null order by opened_at desc limit 1) + 6);
  insert into rowcast.setting (name, value) values ('paused', clock_timestamp()::text) on conflict on constraint setting_pkey do nothing;
end $$;
comment on function rowcast.pause() is 'stops capture at once, of every table, without a lock; rowcast.resume() ends it';
