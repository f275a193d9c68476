-- rowcast.note_left_out() -> void
-- Called once changes are captured again after some were left out: raises the floor, so that everybody who was there
-- before, and whoever comes back, is told `gap`. Transactions that still run may have left something out and commit
-- later: until they have ended rowcast.prune calls it again.
--
-- The floor sees this transaction itself: no place that was reached before it commits sees all that the floor sees.
-- To be called at read committed: it must see what began meanwhile.
-- tables touched: rowcast.installation (update)
create or replace function rowcast.note_left_out() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  own bigint := pg_current_xact_id()::text;
  now pg_snapshot;
  running bigint[];
  until bigint;
begin
  now := pg_current_snapshot();
  until := coalesce(
    (select left_out_until::text::bigint from rowcast.installation),
    pg_snapshot_xmax(now)::text::bigint);
  -- what has begun since the snapshot's end, other than this, is not seen
  running := array(select x::text::bigint from pg_snapshot_xip(now) x where x::text::bigint <> own
                   union all select generate_series(pg_snapshot_xmax(now)::text::bigint, own - 1) order by 1);
  update rowcast.installation
     set floor = format('%s:%s:%s', coalesce(running[1], greatest(own + 1, pg_snapshot_xmax(now)::text::bigint)),
                        greatest(own + 1, pg_snapshot_xmax(now)::text::bigint),
                        array_to_string(running, ','))::pg_snapshot,
         left_out_until = case when exists (select from unnest(running) x where x < until) then until::text::xid8 end;
end $$;
comment on function rowcast.note_left_out() is 'raises the floor where changes were left out';
