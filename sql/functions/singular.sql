-- rowcast.singular(table name) -> text
-- 'pets' -> 'pet', 'categories' -> 'category', 'addresses' -> 'address', 'medical_history' unchanged. A guess for
-- English names, which watch(singular => ..) overrules.
create or replace function rowcast.singular(name text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select case
    when name ~ '[^aeiou]ies$' then regexp_replace(name, 'ies$', 'y')
    when name ~ '(ss|sh|ch|x|z)es$' then regexp_replace(name, 'es$', '')
    when name ~ '[^sui]s$' then regexp_replace(name, 's$', '')
    else name
  end
$$;
comment on function rowcast.singular(text) is 'guesses the singular of an English table name';
