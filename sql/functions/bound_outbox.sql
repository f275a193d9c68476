-- rowcast.bound_outbox() -> void, rowcast.bound_outbox_brief() -> void
-- Where the segment that takes new changes is larger than 4/3 of outbox_size, capture leaves out what follows, in
-- every session, until rowcast.prune has made room: no relay may run, and the disk must not fill. The other two
-- segments hold a third each at most, so all of the outbox stays within twice outbox_size. Called by capture for one
-- in 1,024 ids, chosen by their hash, and for each large row. Not for each 1,024th: where two outboxes take ids in
-- turns, one of them may never get it. Looks at the one segment whose lock its caller holds, so it waits for nobody.
-- Never raises.
-- Of tables that are kept briefly the same, with brief_size: what they write stops nobody else.
do $do$
declare
  outbox pg_catalog.record;
begin
  for outbox in values ('', 0, 'outbox_size', 10737418240), ('_brief', 3, 'brief_size', 1073741824) loop
    execute pg_catalog.format($function$
create or replace function rowcast.bound_outbox%1$s() returns void
language plpgsql as $body$
declare
  state pg_catalog.int8 := pg_catalog.pg_sequence_last_value('rowcast.capture_state%1$s'::pg_catalog.regclass);
  size pg_catalog.int8;
  most pg_catalog.int8;
begin
  if state operator(pg_catalog.>=) 3 then
    return;
  end if;
  size := pg_catalog.pg_total_relation_size(('rowcast.outbox_'
    operator(pg_catalog.||) (state operator(pg_catalog.+) %2$s)::pg_catalog.text)::pg_catalog.regclass);
  most := coalesce(
    (select pg_catalog.pg_size_bytes(s.value) from rowcast.setting s where s.name operator(pg_catalog.=) '%3$s'), %4$s);
  if size operator(pg_catalog.>) ((most operator(pg_catalog./) 3) operator(pg_catalog.*) 4) then
    perform pg_catalog.setval('rowcast.capture_state%1$s'::pg_catalog.regclass, state operator(pg_catalog.+) 3);
  end if;
exception when others then
  null;  -- a setting that is no size, most likely: rowcast.health says so
end $body$ $function$, outbox.column1, outbox.column2, outbox.column3, outbox.column4);
  end loop;
end $do$;
comment on function rowcast.bound_outbox() is 'stops capture where the outbox has outgrown its size';
comment on function rowcast.bound_outbox_brief() is 'the same of tables that are kept briefly';
