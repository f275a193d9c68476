-- call rowcast.watch_each(schema)
-- Watches every table of a schema that is not watched yet, each in a transaction of its own: a writer waits for the
-- triggers of one table, some milliseconds. A table that cannot be watched, or stays locked for ten seconds, is passed over
-- with a warning. Not inside a transaction block. No SET clause, which would forbid COMMIT: every name is qualified.
create or replace procedure rowcast.watch_each(schema text) language plpgsql as $$
declare
  target pg_catalog.regclass;
begin
  foreach target in array rowcast.unwatched_of(schema) loop
    begin
      perform rowcast.watch(target);
    exception when others then
      raise warning 'table % is not watched: %', target, sqlerrm;
    end;
    commit;
  end loop;
end $$;
comment on procedure rowcast.watch_each(text) is 'watches every table of a schema, each in a transaction of its own';
