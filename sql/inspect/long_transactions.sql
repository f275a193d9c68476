-- long_transactions.sql: which open transactions hold something back?
--   psql -d DATABASE -f sql/inspect/long_transactions.sql
--
-- Rights: pg_monitor, or superuser. Without, transactions of other roles have no times and sort last.
-- query may hold values of the application's rows.
--
-- How to read it:
-- writes = true: the transaction has an id. Its own changes reach subscribers when it commits, all together. Changes
--   of others are not held back by it, and reading stays fast beside it. It does keep a relay that falls asleep
--   looking for its end. If it wrote to a watched table, the segment of the outbox it wrote to is not pruned before.
-- writes = false: it reads only. rowcast cares only where it reads the outbox (pg_dump does): then nothing of that is
--   pruned before its end. VACUUM cares always.
-- state "idle in transaction" for many minutes is usually a forgotten session: pg_terminate_backend(pid).
-- Prepared transactions survive restarts. One that nobody finishes holds its changes back for ever: COMMIT PREPARED
--   or ROLLBACK PREPARED, by its gid.
-- A session that ran LISTEN and stays in a transaction pins the NOTIFY queue of the whole cluster. Postgres does not
--   show which session listens; where the queue is filling, suspect the oldest transaction of any database, hence the
--   third result.

set search_path = pg_catalog, pg_temp;

\echo 'Open transactions of this database'
select a.pid, a.usename as role, a.application_name, a.state, a.backend_xid is not null as writes, a.backend_xid as xid,
       date_trunc('second', clock_timestamp() - a.xact_start) as open_for,
       date_trunc('second', clock_timestamp() - a.state_change) as in_state_for,
       pg_blocking_pids(a.pid) as waits_for,
       left(regexp_replace(a.query, '\s+', ' ', 'g'), 80) as query
  from pg_stat_activity a
 where a.datname = current_database() and a.pid <> pg_backend_pid()
   and (a.xact_start is not null or a.backend_xid is not null)
 order by a.xact_start nulls last;

\echo 'Prepared transactions of this database'
select gid, owner, prepared, date_trunc('second', clock_timestamp() - prepared) as open_for, transaction as xid
  from pg_prepared_xacts
 where database = current_database()
 order by prepared;

\echo 'NOTIFY queue of the cluster, and the oldest transaction of each database'
select round((100 * pg_notification_queue_usage())::numeric, 2) || ' %' as notify_queue_in_use,
       a.datname as database,
       a.pid,
       a.usename as role,
       a.state,
       date_trunc('second', clock_timestamp() - a.xact_start) as open_for
  from (select 1) one
  left join lateral (select distinct on (datname) datname, pid, usename, state, xact_start
                       from pg_stat_activity
                      where datname is not null and xact_start is not null and pid <> pg_backend_pid()
                      order by datname, xact_start) a on true
 order by a.xact_start;
