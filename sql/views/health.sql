-- rowcast.health: what an operator wants to know, one finding a row: ok, warn or fail, and what to do.
-- rowcast doctor prints it; /readyz does not depend on it.
create view rowcast.health as
with finding(sort, finding, state, detail, remedy) as (
  select 1, 'channels', case when count(*) = 0 then 'warn' else 'ok' end,
         count(*) filter (where target is not null) || ' tables watched, ' || count(*) filter (where target is null) || ' channels without a table',
         case when count(*) = 0 then 'select rowcast.watch(''public.your_table'');' end
    from rowcast.channel
  union all
  select 2, 'triggers', case when count(*) filter (where state = 'off') > 0 then 'fail' when count(drift) > 0 then 'warn' else 'ok' end,
         coalesce(string_agg(coalesce("table"::text, channel) || ': ' || drift, '; ') filter (where drift is not null), 'all present and enabled'),
         case when count(drift) > 0 then 'select * from rowcast.watched where drift is not null;' end
    from rowcast.watched
  union all
  select 3, 'outbox',
         case when pg_total_relation_size('rowcast.outbox_0') + pg_total_relation_size('rowcast.outbox_1') + pg_total_relation_size('rowcast.outbox_2') > 10::bigint * 1024 * 1024 * 1024 then 'warn' else 'ok' end,
         pg_size_pretty(pg_total_relation_size('rowcast.outbox_0') + pg_total_relation_size('rowcast.outbox_1') + pg_total_relation_size('rowcast.outbox_2')),
         case when pg_total_relation_size('rowcast.outbox_0') + pg_total_relation_size('rowcast.outbox_1') + pg_total_relation_size('rowcast.outbox_2') > 10::bigint * 1024 * 1024 * 1024
              then 'larger than 10 GB: sql/inspect/outbox_growth.sql says what fills it' end
  union all
  select 4, 'sequence', case when seqcache = 1 then 'ok' else 'fail' end, 'cache of rowcast.outbox_id: ' || seqcache,
         case when seqcache <> 1 then 'alter sequence rowcast.outbox_id cache 1;' end
    from pg_sequence where seqrelid = 'rowcast.outbox_id'::regclass
  union all
  select 5, 'notify queue', case when pg_notification_queue_usage() > 0.25 then 'warn' else 'ok' end,
         to_char(100 * pg_notification_queue_usage(), 'FM990.0') || ' % of the queue in use',
         case when pg_notification_queue_usage() > 0.25 then 'a listener does not read: look for long transactions of sessions that ran LISTEN' end
  union all
  select 6, 'doorbell',
         case when rowcast.bell_mode() <> 'never' and current_setting('max_prepared_transactions')::int > 0 then 'warn' else 'ok' end,
         'notify = ' || rowcast.bell_mode(),
         case when rowcast.bell_mode() <> 'never' and current_setting('max_prepared_transactions')::int > 0
              then 'PREPARE TRANSACTION fails after a NOTIFY: select rowcast.configure(''notify'', ''never'');' end
  union all
  (select 7, 'oldest transaction', case when a.xact_start < now() - interval '10 minutes' then 'warn' else 'ok' end,
         coalesce('pid ' || a.pid || ', open for ' || date_trunc('second', clock_timestamp() - a.xact_start), 'none'),
         case when a.xact_start < now() - interval '10 minutes' then 'its own changes are sent when it ends; if it is forgotten: select pg_terminate_backend(' || a.pid || ');' end
    from (select 1) one left join lateral (
      select pid, xact_start from pg_stat_activity
       where datname = current_database() and backend_xid is not null and pid <> pg_backend_pid() order by xact_start limit 1) a on true)
  union all
  select 8, 'prepared transactions', case when count(*) > 0 and min(prepared) < now() - interval '10 minutes' then 'warn' else 'ok' end,
         count(*) || ' open', case when count(*) > 0 and min(prepared) < now() - interval '10 minutes' then 'select gid, prepared, owner from pg_prepared_xacts;' end
    from pg_prepared_xacts where database = current_database()
)
select finding, state, detail, remedy from finding order by sort;
comment on view rowcast.health is 'findings for an operator: ok, warn or fail, and what to do';
