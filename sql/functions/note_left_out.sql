-- rowcast.note_left_out(briefly) -> void
-- Called once changes are captured again after some were left out: raises the floor, so that everybody who was there
-- before, and whoever comes back, is told `gap`. Transactions that still run may have left something out and commit
-- later: until they have ended rowcast.prune calls it again.
--
-- The floor sees this transaction itself: no place that was reached before it commits sees all that the floor sees.
-- Briefly: of tables that are kept briefly alone.
-- To be called at read committed: it must see what began meanwhile.
-- tables touched: rowcast.installation (update)
create or replace function rowcast.note_left_out(briefly boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  own bigint := pg_current_xact_id()::text;
  now pg_snapshot;
  running bigint[];
  until bigint;
  raised pg_snapshot;
  again xid8;
begin
  now := pg_current_snapshot();
  until := coalesce(
    (select (case when briefly then brief_left_out_until else left_out_until end)::text::bigint
       from rowcast.installation),
    -- a snapshot lists nothing from its end on, and what runs there has left something out as well
    greatest(own + 1, pg_snapshot_xmax(now)::text::bigint));
  -- what has begun since the snapshot's end, other than this, is not seen
  running := array(select x::text::bigint from pg_snapshot_xip(now) x where x::text::bigint <> own
                   union all select generate_series(pg_snapshot_xmax(now)::text::bigint, own - 1) order by 1);
  raised := format('%s:%s:%s', coalesce(running[1], greatest(own + 1, pg_snapshot_xmax(now)::text::bigint)),
                        greatest(own + 1, pg_snapshot_xmax(now)::text::bigint),
                        array_to_string(running, ','))::pg_snapshot;
  again := case when exists (select from unnest(running) x where x < until) then until::text::xid8 end;
  if briefly then
    update rowcast.installation
      set brief_floor = raised, brief_floored_by = pg_current_xact_id(), brief_left_out_until = again;
  else
    update rowcast.installation set floor = raised, left_out_until = again;
  end if;
end $$;
comment on function rowcast.note_left_out(boolean) is 'raises the floor where changes were left out';
drop function if exists rowcast.note_left_out();
