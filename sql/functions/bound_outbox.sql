-- rowcast.bound_outbox() -> void
-- Where the segment that takes new changes is larger than 4/3 of outbox_size, capture leaves out what follows, in every
-- session, until rowcast.prune has made room: no relay may run, and the disk must not fill. The other two segments
-- hold a third each at most, so all of the outbox stays within twice outbox_size. Called by capture for each 1,024th
-- id and for each large row. Looks at the one segment whose lock its caller holds, so it waits for nobody. Never
-- raises.
create or replace function rowcast.bound_outbox() returns void
language plpgsql as $$
declare
  state pg_catalog.int8 := pg_catalog.pg_sequence_last_value('rowcast.capture_state'::pg_catalog.regclass);
  size pg_catalog.int8;
  most pg_catalog.int8;
begin
  if state operator(pg_catalog.>=) 3 then
    return;
  end if;
  size := pg_catalog.pg_total_relation_size(('rowcast.outbox_'
    operator(pg_catalog.||) state::pg_catalog.text)::pg_catalog.regclass);
  most := coalesce(
    (select pg_catalog.pg_size_bytes(s.value) from rowcast.setting s where s.name operator(pg_catalog.=) 'outbox_size'),
    10737418240);
  if size operator(pg_catalog.>) ((most operator(pg_catalog./) 3) operator(pg_catalog.*) 4) then
    perform pg_catalog.setval('rowcast.capture_state'::pg_catalog.regclass, state operator(pg_catalog.+) 3);
  end if;
exception when others then
  null;  -- a setting that is no size, most likely: rowcast.health says so
end $$;
comment on function rowcast.bound_outbox() is 'stops capture where the outbox has outgrown its size';
