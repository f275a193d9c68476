-- rowcast.health: what an operator wants to know, one finding a row: ok, warn or fail, and what to do.
-- rowcast doctor prints it; /readyz does not depend on it.
create view rowcast.health as
with segment(relation, bytes, opened_at, has_rows, is_old) as (
  select t.relation, pg_total_relation_size(t.relation), s.opened_at, pg_relation_size(t.relation) > 0, s.opened_at < max(s.opened_at) over ()
    from rowcast.segment s cross join lateral (select format('rowcast.outbox_%s', s.number)::regclass) t(relation)
), outbox(bytes, oldest, most, retention) as (
  select sum(bytes)::bigint, min(opened_at) filter (where has_rows),
         pg_size_bytes(coalesce((select value from rowcast.setting where name = 'outbox_size'), '10 GB')),
         coalesce((select value from rowcast.setting where name = 'retention'), '24 hours')::interval
    from segment
), holder(pids, prepared) as (
  -- who keeps rowcast.prune from an old segment; a lock without a pid is that of a prepared transaction
  select array_agg(distinct l.pid order by l.pid) filter (where l.pid is not null), count(*) filter (where l.pid is null)
    from pg_locks l join segment s on s.relation = l.relation and s.is_old
   where l.locktype = 'relation' and l.database = (select oid from pg_database where datname = current_database()) and l.pid is distinct from pg_backend_pid()
), finding(sort, finding, state, detail, remedy) as (
  select 1, 'channels', case when count(*) = 0 then 'warn' else 'ok' end,
         count(*) filter (where target is not null) || ' tables watched, ' || count(*) filter (where target is null) || ' channels without a table',
         case when count(*) = 0 then 'select rowcast.watch(''public.your_table'');' end
    from rowcast.channel
  union all
  -- before them, since nothing else matters while it lasts
  select 0, 'capture', case when last_value >= 6 then 'warn' when last_value >= 3 then 'fail' else 'ok' end,
         case when last_value >= 6 then 'paused: changes are left out since ' || coalesce((select value from rowcast.setting where name = 'paused'), 'a moment ago')
              when last_value >= 3 then 'full: changes are left out, the outbox is larger than twice outbox_size'
              else 'changes are captured' end,
         case when last_value >= 6 then 'select rowcast.resume();'
              when last_value >= 3 then 'select rowcast.prune(); and start rowcast serve, which does it each minute; or raise it: select rowcast.configure(''outbox_size'', ''..'');' end
    from rowcast.capture_state
  union all
  select 2, 'triggers', case when count(*) filter (where state = 'off' or drift like 'another column has the name%' or drift like 'an excluded column is gone%') > 0 then 'fail' when count(drift) > 0 then 'warn' else 'ok' end,
         coalesce(string_agg(coalesce("table"::text, channel) || ': ' || drift, '; ') filter (where drift is not null), 'all present and enabled'),
         case when count(drift) > 0 then 'select * from rowcast.watched where drift is not null;' end
    from rowcast.watched
  union all
  select 3, 'outbox', case when bytes > most then 'warn' else 'ok' end, pg_size_pretty(bytes),
         case when bytes > most then 'larger than outbox_size (' || pg_size_pretty(most) || '): sql/inspect/outbox_growth.sql says what fills it' end
    from outbox
  union all
  select 4, 'retention', case when is_late then 'warn' else 'ok' end,
         'changes are kept for ' || retention || ', ' || coalesce('the oldest segment was opened ' || date_trunc('second', clock_timestamp() - oldest) || ' ago', 'the outbox is empty'),
         case
           when not is_late then null
           when not exists (select from pg_stat_activity where datname = current_database() and application_name ~ '^rowcast read [0-9a-f]{8}$')
             then 'no relay runs, and it is rowcast serve that prunes: start it, or call select rowcast.prune(); sql/inspect/relays.sql shows the relays'
           when pids is not null
             then 'an old segment is in use: select pid, usename, state, xact_start, query from pg_stat_activity where pid = any (''' || pids::text || '''); it is emptied when these transactions have ended'
           when prepared > 0 then 'a prepared transaction wrote to an old segment: select gid, prepared, owner from pg_prepared_xacts;'
           else 'nobody is in the way: select rowcast.prune(); says what it does; where it fails, rowcast serve logs prune_failed'
         end
    from outbox cross join holder cross join lateral (select bytes > most or coalesce(oldest < clock_timestamp() - 2 * retention, false)) l(is_late)
  union all
  select 5, 'sequence', case when seqcache = 1 then 'ok' else 'fail' end, 'cache of rowcast.outbox_id: ' || seqcache,
         case when seqcache <> 1 then 'alter sequence rowcast.outbox_id cache 1;' end
    from pg_sequence where seqrelid = 'rowcast.outbox_id'::regclass
  union all
  select 6, 'notify queue', case when pg_notification_queue_usage() > 0.25 then 'warn' else 'ok' end,
         to_char(100 * pg_notification_queue_usage(), 'FM990.0') || ' % of the queue in use',
         case when pg_notification_queue_usage() > 0.25 then 'a listener does not read: look for long transactions of sessions that ran LISTEN' end
  union all
  select 7, 'doorbell',
         case when rowcast.bell_mode() <> 'never' and current_setting('max_prepared_transactions')::int > 0 or listeners > 0 then 'warn' else 'ok' end,
         'notify = ' || rowcast.bell_mode() || case when listeners > 0 then ': bells carry rows, and login roles that may not read all of these tables can LISTEN: ' || listeners else '' end,
         case when rowcast.bell_mode() <> 'never' and current_setting('max_prepared_transactions')::int > 0
              then 'PREPARE TRANSACTION fails after a NOTIFY: select rowcast.configure(''notify'', ''never'');'
              when listeners > 0 then 'select rowcast.configure(''notify'', ''empty'');' end
    from (select case when rowcast.bell_mode() in ('row', 'always') then (
            select count(*) from pg_roles r
             where r.rolcanlogin and not r.rolsuper and not pg_has_role(r.oid, 'rowcast_relay', 'usage') and has_database_privilege(r.oid, current_database(), 'connect')
               and exists (select from rowcast.channel c where c.target is not null and exists (select from pg_class t where t.oid = c.target)
                            and not has_table_privilege(r.oid, c.target, 'select'))) else 0 end) l(listeners)
  union all
  (select 8, 'oldest transaction', case when a.xact_start < now() - interval '10 minutes' then 'warn' else 'ok' end,
         coalesce('pid ' || a.pid || ', open for ' || date_trunc('second', clock_timestamp() - a.xact_start), 'none'),
         case when a.xact_start < now() - interval '10 minutes' then 'its own changes are sent when it ends; if it is forgotten: select pg_terminate_backend(' || a.pid || ');' end
    from (select 1) one left join lateral (
      select pid, xact_start from pg_stat_activity
       where datname = current_database() and backend_xid is not null and pid <> pg_backend_pid() order by xact_start limit 1) a on true)
  union all
  select 9, 'prepared transactions', case when count(*) > 0 and min(prepared) < now() - interval '10 minutes' then 'warn' else 'ok' end,
         count(*) || ' open', case when count(*) > 0 and min(prepared) < now() - interval '10 minutes' then 'select gid, prepared, owner from pg_prepared_xacts;' end
    from pg_prepared_xacts where database = current_database()
)
select finding, state, detail, remedy from finding order by sort;
comment on view rowcast.health is 'findings for an operator: ok, warn or fail, and what to do';
