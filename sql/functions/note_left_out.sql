-- rowcast.note_left_out(briefly) -> void
-- Called once changes are captured again after some were left out: raises the floor, so that each client that was
-- connected before, or resumes from before, is told `gap`. Transactions that still run may have left something out and
-- commit later: until they have ended rowcast.prune calls it again.
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
  unseen bigint;
  holding bigint[];
  latest bigint;
begin
  now := pg_current_snapshot();
  unseen := pg_snapshot_xmax(now)::text;
  -- The id of a subtransaction, which a block with an exception is, drawn now: later than that of each transaction that
  -- has left something out. The caller may have its own since before the pause.
  begin
    update rowcast.installation set floor = floor;
    select unseen + ((xmin::text::bigint - unseen) & 4294967295) into latest from rowcast.installation;
  exception when division_by_zero then
    null;
  end;
  until := coalesce(
    (select (case when briefly then brief_left_out_until else left_out_until end)::text::bigint
       from rowcast.installation),
    latest + 1);
  -- A snapshot lists nothing from its end on. What runs there is not seen.
  running := array(select x::text::bigint from pg_snapshot_xip(now) x where x::text::bigint <> own
                   union
                   select x from generate_series(unseen, latest - 1) x
                    where x <> own and pg_xact_status(x::text::xid8) = 'in progress'
                    order by 1);
  raised := format(
    '%s:%s:%s', coalesce(running[1], latest + 1), latest + 1, array_to_string(running, ','))::pg_snapshot;
  -- What has left something out holds the lock of its id, of 32 bits, since before it wrote. Subtransactions of this
  -- transaction that have ended hold none.
  holding := array(select unseen + ((transactionid::text::bigint - unseen) & 4294967295)
                     from pg_locks
                    where locktype = 'transactionid' and granted and pid is distinct from pg_backend_pid());
  again := case when exists (select from unnest(running) x
                              where x < until and (x < unseen or x = any (holding))) then until::text::xid8 end;
  if briefly then
    update rowcast.installation
      set brief_floor = raised, brief_floored_by = pg_current_xact_id(), brief_left_out_until = again;
  else
    update rowcast.installation set floor = raised, left_out_until = again;
  end if;
end $$;
comment on function rowcast.note_left_out(boolean) is 'raises the floor where changes were left out';
drop function if exists rowcast.note_left_out();
