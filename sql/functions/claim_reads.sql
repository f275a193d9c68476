-- rowcast.claim_reads(view) -> setof record: the tables that a view reads, through other views too
--   relation  the table
--   columns   those of its columns that are read; all of them where none is named
--   places    in how many places of the view's own query it stands
--   problem   why what is read cannot be followed; then relation is null
-- tables touched: none
create or replace function rowcast.claim_reads(
  checked regclass,
  out relation regclass,
  out columns text[],
  out places int,
  out problem text)
returns setof record
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  -- stable, and another value a moment later or for another session: no table tells when
  of_the_moment constant text[] := array['now', 'transaction_timestamp', 'statement_timestamp', 'current_setting',
    'current_user', 'session_user', 'pg_backend_pid', 'txid_current_snapshot', 'pg_current_snapshot'];
  views oid[];
  rules text;
begin
  with recursive seen(rel) as (
      select checked::oid
    union
      select d.refobjid
        from seen s
        join pg_class v on v.oid = s.rel and v.relkind = 'v'
        join pg_rewrite r on r.ev_class = v.oid
        join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
         and d.refclassid = 'pg_class'::regclass
         and d.refobjid <> v.oid
  )
  select array_agg(s.rel) into views from seen s join pg_class c on c.oid = s.rel and c.relkind = 'v';

  -- what a rule calls stands in its tree; dependencies leave out what the server brings along
  select string_agg(r.ev_action::text, ' ') into rules from pg_rewrite r where r.ev_class = any (views);
  for problem in
    select distinct format('it calls %s, which %s', p.oid::regprocedure, case
             when p.provolatile = 'v' then 'is volatile: it gives another value each time'
             when p.proname = any (of_the_moment) then 'gives another value later, and no table tells when'
             else 'may read tables that are not seen here: write out what it does, or make it a view' end)
      from regexp_matches(rules, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([1-9][0-9]*)', 'g') m
      join pg_proc p on p.oid = m[1]::oid
     where p.provolatile = 'v'
        or (p.pronamespace = 'pg_catalog'::regnamespace and p.proname = any (of_the_moment))
        or (p.provolatile = 's'
          and p.pronamespace <> 'pg_catalog'::regnamespace
          and not exists (select from pg_depend d
                           where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'))
    union all
    select 'it asks for the time, or for the role that runs it' where rules ~ '[{]SQLVALUEFUNCTION '
    union all
    select format('it reads %s, which is no table whose changes can be captured', d.refobjid::regclass)
      from pg_rewrite r
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      join pg_class c on c.oid = d.refobjid
     where r.ev_class = any (views) and (c.relkind not in ('r', 'p', 'v') or c.relnamespace = 'pg_catalog'::regnamespace)
  loop
    return next;
  end loop;
  if problem is not null then
    return;
  end if;

  for relation, columns, places in
    select c.oid::regclass,
           coalesce(array_agg(distinct a.attname::text) filter (where a.attname is not null),
                    array(select t.attname::text from pg_attribute t
                           where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped)),
           (select count(*)
              from pg_rewrite w cross join regexp_matches(w.ev_action::text, ':relid ' || c.oid || ' ', 'g')
             where w.ev_class = checked)::int
      from pg_rewrite r
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      join pg_class c on c.oid = d.refobjid and c.relkind in ('r', 'p')
      left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid and d.refobjsubid > 0
     where r.ev_class = any (views)
     group by c.oid
     order by c.oid
  loop
    return next;
  end loop;
end $$;
comment on function rowcast.claim_reads(regclass) is 'the tables that a view reads, and why they cannot be followed';
