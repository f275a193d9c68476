-- rowcast.claims: one row for each claim that rowcast.claim has stated, and each table that it follows.
--   channel  in which the table's changes are captured; one that begins with a dot may be seen by no client
--   holder   the column that says whose values a row is of; null: a changed row has all connected holders read again
--   drift    why the values are not followed any more; then a policy that names the claim shows nothing
create view rowcast.claims as
select k.name,
       k.query,
       k.value_type,
       f.target as "table",
       f.columns,
       f.holder,
       c.name as channel,
       k.stated_at as since,
       case
         when c.id is null or exists (select from rowcast.displaced d where d.channel = c.id) then
           'its table is not captured any more; state the claim again: ' || r.call
         when (case when c.briefly then b.last_value else s.last_value end) >= 3 then
           'changes are left out, and memberships with them: see rowcast.health'
         when d.hidden <> '{}' then
           format('these columns are not captured any more: %s; state the claim again: %s',
                  array_to_string(d.hidden, ', '),
                  r.call)
       end as drift
  from rowcast.claim k
  left join rowcast.followed f on f.claim = k.name
  left join rowcast.channel c on c.target = f.target
   and c.target = c.target_oid
   and c.origin = (select rowcast.origin())
 cross join rowcast.capture_state s
 cross join rowcast.capture_state_brief b
 cross join lateral (
   select array(select w.name from unnest(f.columns) w(name)
                 where not exists (select from rowcast.shown_column s where s.channel = c.id and s.name = w.name))
 ) d(hidden)
 -- with what it follows, as long as these tables have the names that they had: else the query reads others by now
 cross join lateral (
   select format('select rowcast.claim(%L, %L', k.name, k.query)
          || coalesce(
               ', follows => '
               || case when bool_and(
                         o.oid is not null
                         and not exists (
                           select from rowcast.channel w
                             join rowcast.displaced d on d.channel = w.id
                            where w.target = a.target))
                    then quote_literal(
                           array_agg(format('%I.%I', n.nspname, o.relname) order by n.nspname, o.relname)::text) end,
               '')
          || ');'
     from rowcast.followed a
     left join pg_class o on o.oid = a.target
     left join pg_namespace n on n.oid = o.relnamespace
    where a.claim = k.name
 ) r(call)
 order by k.name, f.target;
comment on view rowcast.claims is 'claims whose values are read from tables, and the tables that they follow';
