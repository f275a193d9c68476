-- rowcast.write_to(segment) -> void
-- Makes new changes go to a segment of the outbox, at once and in every session; capture that was paused or full goes
-- on. A change that read the state before may still be added to the old segment, which rowcast.prune expects. Not
-- undone by a rollback: call it last.
create or replace function rowcast.write_to(segment int) returns void
language sql set search_path = pg_catalog, pg_temp as $$
  select case
    when segment < 3 then setval('rowcast.capture_state', segment)
    else setval('rowcast.capture_state_brief', segment - 3) end;
$$;
comment on function rowcast.write_to(int) is 'makes new changes go to a segment of the outbox';
