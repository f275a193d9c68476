-- rowcast.unwatched_of(schema, except_tables) -> regclass[], by name
-- The tables of a schema that could be watched and are not.
create or replace function rowcast.unwatched_of(schema text, except_tables text[]) returns regclass[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select array(select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = schema
                  and c.relkind in ('r', 'p')
                  and not c.relispartition
                  and c.relpersistence <> 't'
                  and c.relname <> all (except_tables)
                  and not exists (select from rowcast.channel w where w.target = c.oid)
                  -- taken out by rowcast.unwatch
                  and not exists (select from rowcast.stated_table s
                                   where s.is_out and (s.number = c.oid or (s.schema, s.name) = (n.nspname, c.relname)))
                order by c.relname);
$$;
comment on function rowcast.unwatched_of(text, text[]) is 'tables of a schema that could be watched and are not';
select rowcast.supersede('rowcast.unwatched_of(text)', 'rowcast.unwatched_of(text, text[])');
