-- rowcast.casts_to_json(target) -> boolean: whether a row's text is made by a function of an extension, which may raise
-- PostGIS refuses curves, say. Such a row is captured, and read, like a large one: its key stands for a row whose text
-- cannot be had. hstore's function takes every value, and its tables go the short way.
-- tables touched: none
create or replace function rowcast.casts_to_json(target regclass) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  with recursive type_of(oid) as (
    select a.atttypid
      from pg_attribute a
     where a.attrelid = casts_to_json.target and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384
    union
    select i.oid
      from type_of o
      join pg_type t on t.oid = o.oid
     cross join lateral (
       select t.typelem where t.typelem <> 0 and t.typlen = -1
       union all
       select t.typbasetype where t.typbasetype <> 0
       union all
       select a.atttypid from pg_attribute a
        where t.typrelid <> 0 and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
     ) i(oid)
  )
  select exists (
    select from type_of o
      join pg_cast k on k.castsource = o.oid and k.casttarget = 'json'::regtype and k.castmethod = 'f'
      join pg_proc p on p.oid = k.castfunc
     where p.prosrc <> 'hstore_to_json')
$$;
comment on function rowcast.casts_to_json(regclass) is
  'whether the text of a table''s rows is made by a function of an extension';
