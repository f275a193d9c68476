-- rowcast.claim_reads(view) -> setof record: the tables that a view reads, through other views too
--   relation  the table
--   columns   those of its columns that are read; all of them where a row is read as a whole, or no column is named
--   problem   why what is read cannot be followed; then relation is null
-- tables touched: none
create or replace function rowcast.claim_reads(
  checked regclass,
  out relation regclass,
  out columns text[],
  out problem text)
returns setof record
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  views oid[] := array[checked::oid];
  before int := 0;
  trees text;
  reads oid[];
begin
  -- what a rule reads and calls stands in its tree: dependencies leave out what the server brings along
  while cardinality(views) > before loop
    before := cardinality(views);
    select string_agg(r.ev_action::text, ' ') into trees from pg_rewrite r where r.ev_class = any (views);
    select array_agg(distinct m[1]::oid) into reads from regexp_matches(trees, ':rtekind 0 :relid ([0-9]+) ', 'g') m;
    views := array(select unnest(views)
                    union select c.oid
                     from pg_class c
                    where c.oid = any (reads) and c.relkind = 'v');
  end loop;

  for problem in
    select distinct format('it calls %s, which %s', p.oid::regprocedure, case
             when p.provolatile = 'v' then 'is volatile: it gives another value each time'
             else 'may give another value where no table has changed' end)
      from regexp_matches(trees, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([1-9][0-9]*)', 'g') m
      join pg_proc p on p.oid = m[1]::oid
     where p.provolatile <> 'i'
       -- how a value is written or compared, which our sessions have fixed: casts of times and numbers, formats, case
       and not (p.provolatile = 's' and p.pronamespace = 'pg_catalog'::regnamespace and (
         p.proname ~ '^(date|time|timestamp|timestamptz|timetz|interval)_?(cmp|eq|ne|lt|le|gt|ge|pl|mi|larger|smaller)'
         or p.proname in ('concat', 'concat_ws', 'format', 'to_char', 'to_json', 'to_jsonb', 'json_build_object',
                          'jsonb_build_object',
                          'json_build_array',
                          'jsonb_build_array',
                          'array_to_string',
                          'row_to_json')))
    union all
    select 'it asks for the time, or for the role that runs it'
     where trees ~ '[{]SQLVALUEFUNCTION '
    union all
    -- a text becomes a time when the query is run: now, today and the like are others then
    select 'it makes a time of a text: ''now'' or ''today'' would be another one later'
      from regexp_matches(trees, '[{]COERCEVIAIO :arg .*? :resulttype ([0-9]+) ', 'g') m
      join pg_type t on t.oid = m[1]::oid
     where t.typcategory = 'D'
    union all
    select 'it takes a sample of a table, another one each time' where trees ~ ':tablesample [{]'
    union all
    select format('it reads %s, which is no table whose changes can be captured', c.oid::regclass)
      from pg_class c
     where c.oid = any (reads)
       and (c.relkind not in ('r', 'p', 'v')
         or (c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) and c.relkind <> 'v'))
    union all
    select format('table %s has children by inheritance, whose changes are not captured', c.oid::regclass)
      from pg_class c
     where c.oid = any (reads) and c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid)
  loop
    return next;
  end loop;
  if problem is not null then
    return;
  end if;

  for relation, columns in
    select c.oid::regclass,
           case when count(a.attname) = 0 or bool_or(w.is_whole)
             then array(select t.attname::text from pg_attribute t
                         where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped)
             else array_agg(distinct a.attname::text) filter (where a.attname is not null) end
      from pg_class c
      left join pg_rewrite r on r.ev_class = any (views)
      left join pg_depend d on d.classid = 'pg_rewrite'::regclass
       and d.objid = r.oid
       and d.refclassid = 'pg_class'::regclass
       and d.refobjid = c.oid
       and d.refobjsubid > 0
      left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
     cross join lateral (select trees ~ '[{]VAR :varno [0-9]+ :varattno 0 ') w(is_whole)
     where c.oid = any (reads) and c.relkind in ('r', 'p')
     group by c.oid
     order by c.oid
  loop
    return next;
  end loop;
end $$;
comment on function rowcast.claim_reads(regclass) is 'the tables that a view reads, and why they cannot be followed';
