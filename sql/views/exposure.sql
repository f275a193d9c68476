-- rowcast.exposure: one row for each column of a watched table and each role that a policy names: whether the role can
-- see it, and of which rows; and by which other ways it leaves. For an audit; without a key in the relay everybody sees
-- every column that is not excluded.
--   exposure  seen, hidden, excluded (for everybody), drifted: another column has taken a name of the policy since it
--             was stated, so the column is not seen; all of them where the row filter names it
--   notified  whether the notifications of the table's user rule tell it to a user with this role: 'as seen' in the
--             rows that the policy shows; 'named' in rowcast.watch(.., notification => ..), whatever policies say;
--             'no'
--   actor     whether the role is told who wrote
--   claims    those of the row filter that rowcast.claim has stated: their values stand in tables, the others in tokens
--   bell      whether every role in the database that runs LISTEN hears it: rowcast.configure('notify', 'empty') ends
--   it
create view rowcast.exposure as
select c.name as channel, c.target as "table", a.attname::text as "column", r.role, s.exposure, p.row_filter,
       case when s.exposure = 'excluded' or (c.user_column is null and c.user_query is null) then 'no'
            when c.notification is not null then
              case when exists (select from jsonb_each_text(c.notification) n where n.value = a.attname::text)
                   then 'named' else 'no' end
            when s.exposure = 'seen' then 'as seen'
            else 'no' end as notified,
       coalesce(p.actor, false) as actor,
       s.exposure <> 'excluded' and rowcast.bell_mode() in ('row', 'always') as bell,
       p.stated_at as since,
       array(select k.name from rowcast.claim k
              where exists (select from rowcast.filter_tests(p.row_filter) f
                             where not f.is_quoted and f.operand = '{' || k.name || '}')
              order by 1) as claims,
       case when s.exposure = 'drifted' then
              format('another column has a name of this policy now: %s; '
                     'state it again: select rowcast.allow(%L, %L, %L, %L, %L);',
                     array_to_string(d.names, ', '), p.channel, p.role, p.row_filter, p.columns, p.actor) end as drift
  from rowcast.channel c
  join pg_attribute a on a.attrelid = c.target
    and c.target = c.target_oid
    and c.origin = (select rowcast.origin())
    and a.attnum > 0
    and not a.attisdropped
 cross join (select distinct role from rowcast.policy) r
  left join rowcast.policy p on p.channel = c.name and p.role = r.role
 cross join lateral (select case when p.channel is null then '{}' else rowcast.drifted_names(p) end) d(names)
 cross join lateral (
   select case
     when a.attnum = any (c.exclude)
       or a.attname::text = any (c.hidden_names || c.given_exclude)
       or a.attnum <> all (c.allowed) then 'excluded'
               when p.channel is null then 'hidden'
               when exists (select from rowcast.filter_tests(p.row_filter) f where f."column" = any (d.names))
                 then 'drifted'
               when p.columns is null then 'seen'
               when a.attname::text <> all (p.columns) then 'hidden'
               when a.attname::text = any (d.names) then 'drifted'
               else 'seen' end) s(exposure)
 order by c.name, r.role, a.attnum;
comment on view rowcast.exposure is
  'for each role, channel and column: whether it can be seen, of which rows, and by which other ways it leaves';
