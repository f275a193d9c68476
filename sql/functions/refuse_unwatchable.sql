-- rowcast.refuse_unwatchable(target) -> void
-- Raises, with the remedy, where a table's changes cannot be captured or where capturing would be unsafe.
create or replace function rowcast.refuse_unwatchable(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  found_table record;
  bad record;
begin
  select c.oid, c.relkind, c.relowner, c.relpersistence, c.relispartition, n.nspname, pg_partition_root(c.oid) as root
    into found_table from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = target;
  if not found then
    raise exception 'cannot watch table %: it does not exist',
      coalesce(target::text, 'null') using errcode = 'undefined_table';
  end if;
  if found_table.relkind in ('v', 'm') then
    raise exception 'cannot watch table %: it is a view', target
      using errcode = 'wrong_object_type', hint = 'watch the tables that it reads';
  elsif found_table.relkind = 'f' then
    raise exception 'cannot watch table %: it is a foreign table', target
      using errcode = 'wrong_object_type',
        hint = 'its triggers would miss whatever is written on the other server; install rowcast there';
  elsif found_table.relkind not in ('r', 'p') then
    raise exception 'cannot watch table %: it is not a table', target using errcode = 'wrong_object_type';
  elsif found_table.relpersistence = 't' then
    raise exception 'cannot watch table %: it is a temporary table', target
      using errcode = 'wrong_object_type', hint = 'only its own session can see it; write to an ordinary table';
  elsif found_table.relispartition then
    raise exception 'cannot watch table %: it is a partition of %', target, found_table.root
      using errcode = 'wrong_object_type',
        hint = format('select rowcast.watch(%L); covers every partition', found_table.root::regclass);
  elsif found_table.nspname in ('rowcast', 'pg_catalog', 'information_schema')
    or exists (select from rowcast.neighbour o where o.name = found_table.nspname) then
    raise exception 'cannot watch table %: it belongs to schema %', target, found_table.nspname
      using errcode = 'wrong_object_type', hint = 'watch the application''s own tables';
  elsif not pg_has_role(current_user, found_table.relowner, 'usage') then
    -- TRIGGER and TRUNCATE are enough to make triggers, but not to take them away, nor to let the relay read the rows
    raise exception 'cannot watch table %: it belongs to %, and % could not unwatch it',
      target,
      pg_get_userbyid(found_table.relowner),
      current_user
      using errcode = 'insufficient_privilege',
            hint = format(
              'make %I a member of the owner: grant %I to %I;',
              current_user,
              pg_get_userbyid(found_table.relowner),
              current_user);
  end if;
  -- row_to_json uses a user-defined cast to json, which would run with the rights of the capture trigger's owner
  select a.attname as column_name, format_type(t.oid, null) as type_name into bad
    from pg_attribute a
   cross join lateral rowcast.types_within(a.atttypid) t(oid)
    join pg_cast k on k.castsource = t.oid
   where a.attrelid = target
     and a.attnum > 0
     and not a.attisdropped
     and k.casttarget = 'json'::regtype and k.castmethod = 'f' and k.castsource >= 16384
     -- what a superuser has installed as part of an extension (hstore, PostGIS) is as good as Postgres' own
     and not exists (select from pg_depend d join pg_proc p on p.oid = d.objid join pg_roles r on r.oid = p.proowner
                      where d.classid = 'pg_proc'::regclass and d.objid = k.castfunc and d.deptype = 'e' and r.rolsuper)
   limit 1;
  if found then
    raise exception 'cannot watch table %: column % is of type %, which has a cast to json by a function',
      target,
      bad.column_name,
      bad.type_name
      using errcode = 'feature_not_supported',
            hint = 'that function would run inside every write of the table with the capture role''s rights; drop the '
                   'cast, or have a superuser make it part of an extension';
  end if;
end $$;
comment on function rowcast.refuse_unwatchable(regclass) is 'raises where a table cannot be watched, with the remedy';
