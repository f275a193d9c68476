-- cost.sql: what does capture cost, by table, and how long does its trigger take?
--   psql -d DATABASE -f sql/inspect/cost.sql
--
-- Rights: member of rowcast_relay; of the last result, pg_read_all_stats as well.
--
-- How to read it: the first result speaks of the changes that the outbox keeps; of a large one it is a projection from
-- the part that looked_at says. old_share is what the rows as they were before take: an update of a row of up to 950
-- bytes stores it twice. The WAL is without the images of whole pages that follow a checkpoint. The second
-- result is empty until track_functions is pl or all. self is without the functions that are called; the trigger is
-- rowcast.capture, and large rows, excluded columns and doorbells have functions of their own. They are of all tables
-- together: EXPLAIN (ANALYZE) of a statement tells the time of its own triggers, ours as "Trigger !rowcast". The third
-- needs pg_stat_statements, and pg_stat_statements.track = all: capture's INSERT into each segment of the outbox.

set search_path = pg_catalog, pg_temp;

\echo 'By table'
select channel,
       "table",
       changes,
       per_second,
       pg_size_pretty(outbox_bytes) as outbox,
       pg_size_pretty(wal_bytes) as wal_about,
       round(100.0 * old_bytes / nullif(outbox_bytes, 0)) || ' %' as old_share,
       large,
       omitted,
       looked_at || ' %' as looked_at
  from rowcast.cost;

\echo 'Time of the functions'
select funcname as function,
       calls,
       round(total_time::numeric) as total_ms,
       round((1000 * total_time / nullif(calls, 0))::numeric, 1) as us_a_call,
       round((1000 * self_time / nullif(calls, 0))::numeric, 1) as self_us
  from pg_stat_user_functions
 where schemaname = 'rowcast' and calls > 0
 order by total_time desc;

select count(*) > 0 as has_statements, max(n.nspname) as statements
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements' \gset
\if :has_statements
\echo 'Statements of capture'
select s.calls,
       round(s.total_exec_time::numeric) as total_ms,
       round((1000 * s.total_exec_time / s.calls)::numeric, 1) as us_a_call,
       round(s.wal_bytes / s.calls) as wal_a_call, left(s.query, 60) as query
  from :"statements".pg_stat_statements s
 where s.dbid = (select oid from pg_database where datname = current_database())
   and s.query ilike '%insert into rowcast.outbox%'
   and s.calls > 0
 order by s.total_exec_time desc
 limit 10;
\else
\echo 'Statements of capture: pg_stat_statements is not here'
\endif
