-- call rowcast.unwatch_all()
-- Stops capturing every table, also the future ones of schemas. Each table has a transaction of its own: none is
-- locked while another one is waited for, and any number of them fits into max_locks_per_transaction. A table that
-- stays locked is left for the next call, with a warning. Not inside a transaction block.
create or replace procedure rowcast.unwatch_all() language plpgsql as $$
declare
  last pg_catalog.int4 := 0;
  target pg_catalog.oid;
  left_over pg_catalog.int4 := 0;
begin
  delete from rowcast.watched_schema;
  update rowcast.stated_table set is_out = false where is_out;
  loop
    -- for the rest of this transaction; what stands before the first commit is qualified
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    select c.id, c.target::pg_catalog.oid into last, target from rowcast.channel c
     where c.target is not null and c.id operator(pg_catalog.>) last order by c.id limit 1;
    exit when not found;
    begin
      perform rowcast.unwatch(target::pg_catalog.regclass);
    exception when lock_not_available or insufficient_privilege then
      raise warning '%', sqlerrm;
      left_over := left_over operator(pg_catalog.+) 1;
    end;
    commit;
  end loop;
  if left_over operator(pg_catalog.>) 0 then
    raise exception '% tables are still watched: see the warnings', left_over
      using errcode = 'object_in_use', hint = 'call rowcast.unwatch_all(); again';
  end if;
end $$;
comment on procedure rowcast.unwatch_all() is 'stops capturing every table, one in a transaction';
