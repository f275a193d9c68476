-- rowcast.free_channel(target, prefix) -> text
-- A channel's name for a table: its own name with _ as -, as a path can have it; with the schema before it, and then a
-- number behind it, where that is another table's. A name has 100 characters at most: of a longer one a digest takes
-- the end's place.
create or replace function rowcast.free_channel(target regclass, prefix text default '') returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  with named(schema, name) as (
    select regexp_replace(replace(lower(n.nspname), '_', '-'), '[[:space:][:cntrl:]/?#%]+', '-', 'g'),
           prefix || regexp_replace(replace(lower(c.relname), '_', '-'), '[[:space:][:cntrl:]/?#%]+', '-', 'g')
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = target
  ), candidate(place, name) as (
    select 1, case name when 'user' then 'users' else name end from named
    union all select 2, schema || '-' || name from named
    union all select n, schema || '-' || name || '-' || n from named cross join generate_series(3, 1000) n
  )
  select f.name from candidate
   cross join lateral (select case
     when length(candidate.name) > 100 then left(candidate.name, 91) || '-' || left(md5(candidate.name), 8)
     else candidate.name end as name) f
   where not exists (select from rowcast.channel c
                      where c.name = f.name and c.target is distinct from free_channel.target)
   order by place limit 1;
$$;
comment on function rowcast.free_channel(regclass, text) is 'a channel''s name for a table that no other table has';
