-- rowcast.casts_to_json(target) -> boolean: whether a row's text is made by a function of an extension, which may raise
-- PostGIS refuses curves, say. Such a row is captured, and read, like a large one: its key stands for a row whose text
-- cannot be had. hstore's function takes every value, and its tables go the short way.
-- tables touched: none
create or replace function rowcast.casts_to_json(target regclass) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (
    select from pg_attribute a
     cross join lateral rowcast.types_within(a.atttypid) t(oid)
      join pg_cast k on k.castsource = t.oid and k.casttarget = 'json'::regtype and k.castmethod = 'f'
      join pg_proc p on p.oid = k.castfunc
     where a.attrelid = casts_to_json.target
       and a.attnum > 0
       and not a.attisdropped
       and a.atttypid >= 16384
       and p.prosrc <> 'hstore_to_json')
$$;
comment on function rowcast.casts_to_json(regclass) is
  'whether the text of a table''s rows is made by a function of an extension';
