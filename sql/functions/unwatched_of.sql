-- rowcast.unwatched_of(schema) -> regclass[], by name
-- The tables of a schema that could be watched and are not.
create or replace function rowcast.unwatched_of(schema text) returns regclass[]
language sql stable set search_path = pg_catalog, pg_temp as $$
  select array(select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = schema and c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
                  and not exists (select from rowcast.channel w where w.target = c.oid)
                order by c.relname);
$$;
comment on function rowcast.unwatched_of(text) is 'tables of a schema that could be watched and are not';
