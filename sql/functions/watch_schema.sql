-- rowcast.watch_schema(name) -> table(target, channel)
-- Watches every ordinary or partitioned table of a schema that is not watched yet, and returns what it watched.
create or replace function rowcast.watch_schema(name text) returns table (target regclass, channel text)
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from pg_namespace n where n.nspname = watch_schema.name) then
    raise exception 'cannot watch schema %: it does not exist', name
      using errcode = 'undefined_schema', hint = 'select nspname from pg_namespace;';
  end if;
  return query
    select t.oid::regclass, rowcast.watch(t.oid)
      from (select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = watch_schema.name and c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
               and not exists (select from rowcast.channel w where w.target = c.oid)
             order by c.relname) t;
end $$;
comment on function rowcast.watch_schema(text) is 'watches every table of a schema that is not watched yet';
