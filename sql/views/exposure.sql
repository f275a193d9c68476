-- rowcast.exposure: one row for each column of a watched table and each role that a policy names: whether the role can
-- see it, and of which rows. For an audit; without a key in the relay everybody sees every column that is not excluded.
create view rowcast.exposure as
select c.name as channel, c.target as "table", a.attname::text as "column", r.role,
       case when a.attnum = any (c.exclude) then 'excluded'
            when p.channel is null then 'hidden'
            when p.columns is null or a.attname::text = any (p.columns) then 'seen'
            else 'hidden' end as exposure,
       p.row_filter
  from rowcast.channel c
  join pg_attribute a on a.attrelid = c.target and c.target = c.target_oid and c.origin = (select rowcast.origin()) and a.attnum > 0 and not a.attisdropped
 cross join (select distinct role from rowcast.policy) r
  left join rowcast.policy p on p.channel = c.name and p.role = r.role
 order by c.name, r.role, a.attnum;
comment on view rowcast.exposure is 'for each role, channel and column: whether it can be seen, and of which rows';
