-- change.sql: everything about one change.
--   psql -d DATABASE -v id=90017 -f sql/inspect/change.sql
-- The id is the "id" of a message, or the first column of recent.sql.
--
-- Rights: member of rowcast_relay. It prints values of the application's rows. It reads the whole outbox (there is no
-- index by id).
--
-- How to read it:
-- No row in the first result: the change was never committed (ids have holes: a rollback uses them up), or it is no
--   longer in the outbox.
-- op: I created, U updated, D deleted, T truncated, N rowcast.notify, P rowcast.publish, C the channel itself changed.
-- data_before and data_after are the row as it was stored. A column that the channel excludes stands there with null
--   and is left out of what subscribers get.
-- users: who is notified, where the channel's rule is a query or the change is a notification. Where the rule is a
--   column, the user is that column's value in the row. {NULL} means that the query failed: see "user_rule".
-- The second result shows the columns that differ; none but excluded ones means that nobody is told.
-- The third shows the whole transaction, at most 50 changes around this one: subscribers get them together, in this
--   order. Two exceptions: where the application's own trigger changed the row again before rowcast's fired, the
--   contents have changed places, so that the row's story is right; a D and an I of one row that moved between
--   partitions are told as one update, under the id of the I. Dates are of the writer's clock, so they can run against
--   the order of ids.
-- A row whose JSON holds \u0000 makes the second result fail; the others stand.

set search_path = pg_catalog, pg_temp;

\if :{?id}
\else
  \echo 'Which change? psql -v id=90017 -f sql/inspect/change.sql'
  \quit
\endif

\x on
\echo 'The change'
select o.id,
       o.op,
       c.name as channel,
       c.target as "table",
       o.at,
       o.actor,
       o.xid as tx,
       pg_xact_status(o.xid) as tx_status,
       o.tableoid::regclass as segment, o.users,
       coalesce(
         c.user_query,
         (select a.attname::text
            from pg_attribute a
           where a.attrelid = c.target and a.attnum = c.user_column)) as user_rule,
       array(select a.attname::text
               from pg_attribute a
              where a.attrelid = c.target and a.attnum = any (c.exclude) and not a.attisdropped
             union select unnest(c.hidden_names || c.given_exclude)) as excluded,
       o.old as data_before, o.new as data_after
  from rowcast.outbox o left join rowcast.channel c on c.id = o.channel
 where o.id = :id;
\x off

\echo 'Columns that differ (of an update)'
select a.key as column, b.value as before, a.value as after
  from rowcast.outbox o
 cross join lateral json_each(o.new) a
  left join lateral json_each(o.old) b on b.key = a.key
 where o.id = :id and o.op = 'U' and a.value::text is distinct from b.value::text;

\echo 'Its transaction'
select case when o.id = :id then '>' else '' end as this, o.id, o.op, c.name as channel, o.at, o.actor,
       left(coalesce(o.new, o.old)::text, 60) as data
  from rowcast.outbox o left join rowcast.channel c on c.id = o.channel
 where o.xid = (select x.xid from rowcast.outbox x where x.id = :id) and o.id between :id - 25 and :id + 25
 order by o.id;
