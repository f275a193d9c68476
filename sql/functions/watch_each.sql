-- call rowcast.watch_each(schema, prefix, except_tables, future)
-- rowcast.watch_schema with a transaction for each table: a writer waits for the triggers of one table, some
-- milliseconds. A table that cannot be watched, or stays locked for ten seconds, is passed over with a warning. Not
-- inside a transaction block. No SET clause, which would forbid COMMIT: every name is qualified.
create or replace procedure rowcast.watch_each(
  schema text,
  prefix text default null,
  except_tables text[] default null,
  future boolean default null)
language plpgsql as $$
declare
  target pg_catalog.regclass;
  remedy text;
begin
  select s.prefix, s.except_tables into prefix, except_tables
    from rowcast.state_schema(schema, prefix, except_tables, future) s;
  commit;
  foreach target in array rowcast.unwatched_of(schema, except_tables) loop
    begin
      perform rowcast.watch_with_prefix(target, prefix);
    exception when others then
      get stacked diagnostics remedy = pg_exception_hint;
      raise warning 'table % is not watched: %', target, sqlerrm using hint = remedy;
    end;
    commit;
  end loop;
end $$;
select rowcast.supersede('rowcast.watch_each(text)', 'rowcast.watch_each(text, text, text[], boolean)');
comment on procedure rowcast.watch_each(text, text, text[], boolean) is
  'watches every table of a schema, each in a transaction of its own';
