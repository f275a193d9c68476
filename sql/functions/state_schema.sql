-- rowcast.state_schema(name, prefix, except_tables, future) -> table(prefix, except_tables), what holds from now on
-- Checks what rowcast.watch_schema and rowcast.watch_each are told of a schema, and notes whether its future tables are
-- watched: true notes it, false forgets it, null leaves it. What is null otherwise is as it was noted. Raises with a
-- remedy.
-- tables touched: rowcast.watched_schema (insert, update, delete), rowcast.seen_table (insert)
create or replace function rowcast.state_schema(
  name text,
  inout prefix text,
  inout except_tables text[],
  future boolean)
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  noted rowcast.watched_schema;
  missing text;
begin
  if not exists (select from pg_namespace n where n.nspname = state_schema.name) then
    -- one that is gone can be forgotten
    if not future then
      delete from rowcast.watched_schema s where s.name = state_schema.name;
      if found then
        prefix := coalesce(prefix, '');
        except_tables := coalesce(except_tables, '{}');
        return;
      end if;
    end if;
    raise exception 'cannot watch schema %: it does not exist', name
      using errcode = 'invalid_schema_name', hint = 'select nspname from pg_namespace;';
  elsif name in ('rowcast', 'pg_catalog', 'information_schema')
    or exists (select from rowcast.neighbour o where o.name = state_schema.name) then
    raise exception 'cannot watch schema %: it is not the application''s',
      name using errcode = 'invalid_parameter_value';
  elsif prefix ~ '[[:space:][:cntrl:]/?#%]' or length(prefix) > 50 then
    raise exception 'cannot watch schema %: prefix % cannot begin a channel''s name, which stands in a path',
      name,
      quote_literal(prefix)
      using errcode = 'invalid_parameter_value', hint = 'at most 50 letters, digits and hyphens';
  end if;
  select t into missing from unnest(except_tables) t
   where not exists (select from pg_class c
                       join pg_namespace n on n.oid = c.relnamespace
                      where n.nspname = state_schema.name and c.relname = t);
  if found then
    -- a table whose name is misspelt here would be watched
    raise exception 'cannot watch schema %: it has no table % to be excepted',
      name,
      coalesce(quote_ident(missing), 'null')
      using errcode = 'undefined_table', hint = 'name tables as pg_class has them, without the schema: ' || coalesce(
        (select string_agg(c.relname, ', ' order by c.relname) from (
           select c.relname
             from pg_class c
             join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = state_schema.name and c.relkind in ('r', 'p')
            order by 1
            limit 20) c),
                  'it has none');
  end if;
  select * into noted from rowcast.watched_schema s where s.name = state_schema.name;
  prefix := coalesce(prefix, noted.prefix, '');
  except_tables := coalesce(except_tables, noted.except_tables, '{}');
  if future or (future is null and noted.name is not null) then
    insert into rowcast.watched_schema as s (name, number, prefix, except_tables)
      values (
        state_schema.name,
        (select n.oid from pg_namespace n where n.nspname = state_schema.name),
        state_schema.prefix,
        state_schema.except_tables)
      on conflict on constraint watched_schema_pkey do update
        set number = excluded.number,
            prefix = excluded.prefix,
            except_tables = excluded.except_tables,
            stated_at = now(),
            stated_by = session_user;
    -- none of these is a new one
    insert into rowcast.seen_table select c.oid
                                     from pg_class c
                                    where c.relkind in ('r', 'p') and c.relpersistence <> 't' on conflict do nothing;
  elsif not future then
    delete from rowcast.watched_schema s where s.name = state_schema.name;
  end if;
end $$;
comment on function rowcast.state_schema(text, text, text[], boolean) is 'notes how a schema is watched';
