-- relays.sql: which relays are connected, and is the doorbell ringing?
--   psql -d DATABASE -f sql/inspect/relays.sql
--
-- Rights: pg_monitor, or superuser. Without, client_addr and the times of other roles' sessions are empty.
--
-- How to read it. A relay is one `rowcast serve`; its connections share the eight characters at the end of
-- application_name: "listen" hears the doorbell, "read" reads the outbox and holds the locks, "query" are occasional
-- queries (0 to 4 of them), "command" is migrate, watch and the like. "replay" (0 to 3, not counted here) reads changes
-- of the past or a snapshot for one subscriber, for 60 seconds at most.
--
-- Two advisory locks say what a relay does (two-integer keys of namespace 1919907683):
--   (1919907683, 1) QUIET     held exclusively by a relay that is awake: it reads every few ms, no writer rings
--   (1919907683, 2) SLEEPERS  held shared by a relay that sleeps: every writer rings. Exclusive, for one statement: a
--                             relay is taking QUIET
--   (1919907683, 7)           taken by a publisher for nodes of an earlier version; rowcast.publisher says which node
--   publishes
-- mode, per relay:
--   asleep            SLEEPERS shared. The normal state when little is written
--   awake             QUIET exclusive. The normal state under load
--   awake or polling  no lock: awake beside another relay, falling asleep, or polling (notify = never, a doorbell that
--                     does not come back, a NOTIFY queue more than a quarter full)
--   no reader         a listen connection without a read connection: it is connecting, or broken
-- An empty first result: no relay is connected. Changes wait in the outbox, every write rings, and nothing is pruned.
--
-- The second result should be short and name read connections. A holder that is no rowcast connection slows delivery
-- (foreign QUIET: nobody rings, changes come with the safety read, up to a second late) and loses nothing. Writers
-- appear with QUIET shared only for an instant.

set search_path = pg_catalog, pg_temp;

\echo 'Relays'
with connection as (
  select a.pid, a.usename, a.client_addr, a.backend_start, split_part(a.application_name, ' ', 2) as purpose,
         split_part(a.application_name, ' ', 3) as instance
    from pg_stat_activity a
   where a.datname = current_database() and a.application_name ~ '^rowcast (listen|read|query|command) [0-9a-f]{8}$'
), held as (
  select l.pid, l.objid, l.mode from pg_locks l
   where l.locktype = 'advisory' and l.classid = 1919907683 and l.objsubid = 2 and l.granted
     and l.database = (select oid from pg_database where datname = current_database())
)
select c.instance,
       case
         when bool_or(h.objid = 1 and h.mode = 'ExclusiveLock') then 'awake'
         when bool_or(h.objid = 2 and h.mode = 'ShareLock') then 'asleep'
         when count(*) filter (where c.purpose = 'read') > 0 then 'awake or polling'
         else 'no reader'
       end as mode,
       min(c.pid) filter (where c.purpose = 'listen') as listen_pid,
       min(c.pid) filter (where c.purpose = 'read') as read_pid,
       count(distinct c.pid) filter (where c.purpose = 'query') as query_connections,
       min(c.usename) as role, min(c.client_addr) as client_addr, min(c.backend_start) as connected_since
  from connection c left join held h on h.pid = c.pid
 where c.purpose <> 'command'
 group by c.instance
 order by connected_since;

\echo 'Locks'
select case l.objid when 1 then 'QUIET' when 2 then 'SLEEPERS' when 7 then 'publisher' else l.objid::text end as lock,
       case l.mode when 'ExclusiveLock' then 'exclusive' when 'ShareLock' then 'shared' else l.mode end as mode,
       l.granted, l.pid, a.usename as role, a.application_name, a.client_addr
  from pg_locks l left join pg_stat_activity a on a.pid = l.pid
 where l.locktype = 'advisory' and l.classid = 1919907683 and l.objsubid = 2
   and l.database = (select oid from pg_database where datname = current_database())
 order by l.objid, l.granted desc, l.pid;

\echo 'Doorbell'
select rowcast.bell_mode() as notify,
       round((100 * pg_notification_queue_usage())::numeric, 2) || ' %' as notify_queue_in_use,
       case
         when rowcast.bell_mode() = 'never' then 'nobody rings: relays poll'
         when pg_notification_queue_usage() > 0.5 then 'nobody rings: the NOTIFY queue is more than half full'
         when rowcast.bell_mode() = 'always' then 'every change rings'
         when exists (select from pg_locks l
                       where l.locktype = 'advisory'
                         and l.classid = 1919907683
                         and l.objid = 1
                         and l.objsubid = 2
                         and l.granted
                         and l.mode = 'ExclusiveLock'
                         and l.database = (select oid from pg_database where datname = current_database()))
           then 'nobody rings: QUIET is held'
         else 'every change rings'
       end as now;
