-- rowcast.types_within(type) -> setof oid: a type, and those that its values are made of
-- What a domain, an array and a composite type have inside, at any depth. Built-in types with nothing inside are
-- themselves alone.
-- tables touched: none
create or replace function rowcast.types_within(type oid) returns setof oid
language sql stable set search_path = pg_catalog, pg_temp as $$
  with recursive type_of(oid) as (
    select types_within.type
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
  select oid from type_of
$$;
comment on function rowcast.types_within(oid) is 'a type, and those that its values are made of';
