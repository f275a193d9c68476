-- rowcast.drifted_names(policy) -> text[], the names in a policy that another column has taken since
-- By column numbers, as long as the channel is fed by the table for which the policy was stated.
-- tables touched: rowcast.channel (select)
create or replace function rowcast.drifted_names(policy rowcast.policy) returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select array(
    select n.name from rowcast.channel c
      cross join unnest((policy).named, (policy).attnums) n(name, attnum)
      join pg_attribute a on a.attrelid = c.target and a.attname = n.name and a.attnum > 0 and not a.attisdropped
     where c.name = (policy).channel and c.target_oid = (policy).target_oid and c.origin = (policy).origin
       and c.target = c.target_oid and a.attnum <> n.attnum);
$$;
comment on function rowcast.drifted_names(rowcast.policy) is
  'the names in a policy that another column has taken since it was stated';
