-- rowcast.must_ring() -> bool
-- Whether the doorbell has to ring. Plain SQL, so that it is inlined into the trigger's plan: a call of a PL/pgSQL
-- function costs a microsecond or two.
--   * while every relay is awake (one holds QUIET exclusively) nobody rings: NOTIFY takes a cluster-wide lock at
--     commit and ends group commit (0.3 of the write throughput with 8 clients);
--   * shared, so writers never collide; test and release are one expression: as two statements, a cancel between
--     them left the lock held for good.
create or replace function rowcast.must_ring() returns bool language sql volatile as $$
  select case when rowcast.bell_mode() operator(pg_catalog.=) 'never' then false
              when rowcast.bell_mode() operator(pg_catalog.=) 'always' then true
              else pg_catalog.pg_try_advisory_lock_shared(1919907683, 1) and pg_catalog.pg_advisory_unlock_shared(1919907683, 1) end
$$;
comment on function rowcast.must_ring() is 'whether the doorbell has to ring';
