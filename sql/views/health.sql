-- rowcast.health: what an operator wants to know, one finding a row: ok, warn or fail, and what to do.
-- rowcast doctor prints it; /readyz does not depend on it.
--
-- An arm is one finding, with a name of its own: state, detail and remedy, and below them what it looks at. The arms
-- stand in the order in which they are shown. They are no views of their own: those would be seen, granted and dumped,
-- too.
create view rowcast.health as
with segment(relation, bytes, opened_at, has_rows, is_old) as (
  select t.relation,
         pg_total_relation_size(t.relation),
         s.opened_at,
         pg_relation_size(t.relation) > 0,
         s.opened_at < max(s.opened_at) over ()
    from rowcast.segment s
   cross join lateral (select format('rowcast.outbox_%s', s.number)::regclass) t(relation)
   where s.number < 3
),
brief(tables, bytes, oldest, is_full, most, retention) as (
  select (select count(*) from rowcast.channel where briefly), sum(pg_total_relation_size(t.relation))::bigint,
         min(s.opened_at) filter (where pg_relation_size(t.relation) > 0),
         (select last_value between 3 and 5 from rowcast.capture_state_brief),
         pg_size_bytes(coalesce((select value from rowcast.setting where name = 'brief_size'), '1 GB')),
         coalesce((select value from rowcast.setting where name = 'brief_retention'), '1 hour')::interval
    from rowcast.segment s cross join lateral (select format('rowcast.outbox_%s', s.number)::regclass) t(relation)
   where s.number > 2
),
outbox(bytes, oldest, most, retention) as (
  select sum(bytes)::bigint,
         min(opened_at) filter (where has_rows),
         pg_size_bytes(coalesce((select value from rowcast.setting where name = 'outbox_size'), '10 GB')),
         coalesce((select value from rowcast.setting where name = 'retention'), '24 hours')::interval
    from segment
),
holder(pids, prepared) as (
  -- the sessions that keep rowcast.prune from an old segment; a lock without a pid is that of a prepared transaction
  select array_agg(distinct l.pid order by l.pid) filter (where l.pid is not null),
         count(*) filter (where l.pid is null)
    from pg_locks l
    join segment s on s.relation = l.relation and s.is_old
   where l.locktype = 'relation'
     and l.database = (select oid from pg_database where datname = current_database())
     and l.pid is distinct from pg_backend_pid()
),

-- what is captured waits, and nobody is told
relays(state, detail, remedy) as (
  select case when count(*) = 0 or count(behind) > 0 then 'warn' else 'ok' end,
         case
           when count(*) = 0 then
             'none runs: changes wait in the outbox, and nobody is told'
             || coalesce('; the last one was there at '
                         || (select to_char(max(n.seen_at), 'YYYY-MM-DD HH24:MI:SS TZ') from rowcast.node n), '')
           when count(behind) > 0 then
             'some do not read: '
             || string_agg(format('%s at %s has not read what was captured at %s',
                                  r.role, r.address, to_char(r.behind, 'HH24:MI:SS TZ')), '; ')
                  filter (where behind is not null)
           else count(*) || ' on this database'
         end,
         case
           when count(*) = 0 then 'start rowcast serve; where it runs, its log says why it cannot reach this database'
           when count(behind) > 0 then
             'its log says why: source_down, cannot_publish, outbox_read_again; where it says nothing, restart it'
         end
    from (
      -- one that reads has noted a snapshot a minute ago at most, so what was captured in a later transaction is
      -- younger
      select n.role,
             n.address,
             case when n.unread < n.seen_at - interval '90 seconds' then n.unread end as behind
        from rowcast.node n
       where n.seen_at > clock_timestamp() - interval '30 seconds'
         -- what another one publishes is no longer this one's
         and (n.role <> 'candidate' or not exists (select from rowcast.nodes p where p.role = 'publisher'))
    ) r
),

-- before what follows, since nothing else matters while it lasts
capture(state, detail, remedy) as (
  select case when barred is not null then 'fail' when is_paused then 'warn' when is_full then 'fail' else 'ok' end,
         case
           when barred is not null then
             'row security is on for tables of rowcast: it fails writes of watched tables, or hides them from relays'
           when is_paused then
             'paused: changes are left out since '
             || coalesce((select value from rowcast.setting where name = 'paused'), 'a moment ago')
           when is_full then 'full: changes are left out, the outbox is larger than twice outbox_size'
           else 'changes are captured'
         end,
         case
           when barred is not null then barred
           when is_paused then 'select rowcast.resume();'
           when is_full then
             'select rowcast.prune(); -- rowcast serve does it each minute: start it. Or a larger size: '
             'select rowcast.configure(''outbox_size'', ''20 GB'');'
         end
    from rowcast.capture_state
   cross join lateral (select last_value >= 6, last_value >= 3) s(is_paused, is_full)
   cross join (
     select string_agg(format('alter table %s disable row level security;', c.oid::regclass), ' ' order by c.relname)
       from pg_class c
      where c.relnamespace = 'rowcast'::regnamespace and c.relkind = 'r' and c.relrowsecurity
   ) r(barred)
),

channels(state, detail, remedy) as (
  select case when count(*) = 0 then 'warn' else 'ok' end,
         count(*) filter (where target is not null) || ' tables watched, '
           || count(*) filter (where target is null) || ' channels without a table',
         case when count(*) = 0 then 'select rowcast.watch(''public.your_table'');' end
    from rowcast.channel
),

triggers(state, detail, remedy) as (
  select case
           when count(*) filter (where state = 'off'
                                    or drift like 'another column has%'
                                    or drift like 'an excluded column is gone%'
                                    or drift like 'triggers do not fire%'
                                    or drift like 'subscription%') > 0 then 'fail'
           when count(drift) > 0 then 'warn'
           else 'ok'
         end,
         coalesce(string_agg(case when exists (select from pg_class c where c.oid = "table") then "table"::text
                                  else channel end || ': ' || drift, '; ')
                    filter (where drift is not null),
                  'all present and enabled'),
         case when count(drift) > 0 then 'select * from rowcast.watched where drift is not null;' end
    from rowcast.watched
),

claims(state, detail, remedy) as (
  select case when count(drift) > 0 then 'fail' else 'ok' end,
         coalesce(
           'policies that name them show nothing: '
             || string_agg(format('%s by %s: %s', name, "table", drift), '; ') filter (where drift is not null),
           count(distinct name) || ' follow their tables'),
         case when count(drift) > 0 then 'select * from rowcast.claims where drift is not null;' end
    from rowcast.claims
  having count(*) > 0
),

-- watched with their future tables, and renamed or made anew since: a relay watches nothing there
lost_schemas(names, remedy) as (
  select string_agg(
           quote_ident(s.name) || coalesce(', which is ' || quote_ident(r.nspname) || ' now', ''),
           '; '
           order by s.name),
         string_agg(
           case
             -- no call that would watch tables which nobody has named
             when r.nspname is not null
               and not exists (select from rowcast.watched_schema o where o.name = r.nspname)
               then format('update rowcast.watched_schema set name = %L where number = %s;', r.nspname, s.number)
             when n.oid is null then format('select rowcast.watch_schema(%L, future => false);', s.name)
             else format('delete from rowcast.watched_schema where name = %L;', s.name)
           end,
           ' '
           order by s.name)
    from rowcast.watched_schema s
    left join pg_namespace n on n.nspname = s.name
    left join pg_namespace r on r.oid = s.number and r.nspname <> s.name
   where n.oid is distinct from s.number
),

new_tables(state, detail, remedy) as (
  select case when count(n."table") > 0 or max(l.names) is not null then 'warn' else 'ok' end,
         coalesce(
           'a schema whose future tables are watched is gone, or another one has its name: ' || max(l.names),
           'not watched yet, in schemas whose future tables are: ' || string_agg(n."table"::text, ', '),
           'none waits to be watched'),
         coalesce(
           max(l.remedy),
           case
             when count(n."table") > 0 then
               'a relay watches them within ten seconds; where it cannot, it logs newcomer_refused: '
               'select * from rowcast.unwatched;'
           end)
    from lost_schemas l
    left join rowcast.newcomer n on true
),

-- a floor that was raised since has told the subscribers
silent_tables(state, detail, remedy) as (
  select case when count(*) > 0 then 'warn' else 'ok' end,
         coalesce('rows were written and none was captured, and nothing in the catalogue says why: '
                  || string_agg(format('%s (%s rows by %s)',
                                       c.target, t.silent_rows, to_char(t.silent_at, 'HH24:MI TZ')),
                                ', ' order by c.name)
                  || '; rowcast.mute, session_replication_role or a trigger that was off for a moment. '
                     'Where that was not meant, the remedy makes their subscribers load again',
                  'whatever is written is captured'),
         'select ' || string_agg(format('rowcast.raise_floor(%s)', c.id), ', ' order by c.name) || ';'
    from rowcast.tally t
    join rowcast.channel c on c.id = t.channel
   where t.silent_at > clock_timestamp() - interval '1 hour'
     and (c.floored_by is null or c.floored_by < t.silent_tx)
),

publications(state, detail, remedy) as (
  select case when count(*) > 0 then 'warn' else 'ok' end,
         case
           when count(*) > 0 then
             'FOR ALL TABLES, those of rowcast too: ' || string_agg(quote_ident(pubname), ', ')
           else 'none has the tables of rowcast'
         end,
         case
           when count(*) > 0 then
             'a subscriber without schema rowcast stops; '
             'publish the application''s tables by name or by schema'
         end
    from pg_publication
   where puballtables
),

size(state, detail, remedy) as (
  select case when bytes > most then 'warn' else 'ok' end,
         pg_size_pretty(bytes),
         case
           when bytes > most then
             'larger than outbox_size (' || pg_size_pretty(most) || '): '
             'sql/inspect/outbox_growth.sql says what fills it'
         end
    from outbox
),

-- of tables that are kept briefly
brief_outbox(state, detail, remedy) as (
  select case
           when is_full then 'fail'
           when bytes > most or is_late then 'warn'
           else 'ok'
         end,
         case when is_full then 'full: changes of tables that are kept briefly are left out; it has ' else '' end
           || pg_size_pretty(bytes) || ', of ' || tables || ' tables whose changes are kept for ' || retention,
         case
           when is_full or bytes > most then
             'select rowcast.prune(); -- they write more than brief_size (' || pg_size_pretty(most)
             || ') between two prunes, or nothing prunes: rowcast serve does. Or a larger size: '
                'select rowcast.configure(''brief_size'', ''2 GB'');'
           when is_late then
             'select rowcast.prune(); says what keeps it; where it fails, rowcast serve logs prune_failed'
         end
    from brief
   cross join lateral (select coalesce(
     oldest < clock_timestamp() - greatest(2 * retention, '10 minutes'),
     false)) l(is_late)
   where tables > 0 or oldest is not null
),

retention(state, detail, remedy) as (
  select case when is_late then 'warn' else 'ok' end,
         'changes are kept for ' || retention || ', '
           || coalesce('the oldest segment was opened ' || date_trunc('second', clock_timestamp() - oldest) || ' ago',
                       'the outbox is empty'),
         case
           when not is_late then null
           when not exists (select from pg_stat_activity
                             where datname = current_database()
                               and application_name ~ '^rowcast read [0-9a-f]{8}$') then
             'no relay runs, and it is rowcast serve that prunes: '
             'start it, or call select rowcast.prune(); sql/inspect/relays.sql shows the relays'
           when pids is not null then
             'an old segment is in use: select pid, usename, state, xact_start, query from pg_stat_activity '
             'where pid = any (''' || pids::text || '''); it is emptied when these transactions have ended'
           when prepared > 0 then
             'a prepared transaction wrote to an old segment: select gid, prepared, owner from pg_prepared_xacts;'
           else
             'nobody is in the way: select rowcast.prune(); says what it does; '
             'where it fails, rowcast serve logs prune_failed'
         end
    from outbox
   cross join holder
   cross join lateral (
     select bytes > most or coalesce(oldest < clock_timestamp() - 2 * retention, false)
   ) l(is_late)
),

sequence(state, detail, remedy) as (
  select case when seqcache = 1 then 'ok' else 'fail' end,
         'cache of rowcast.outbox_id: ' || seqcache,
         case when seqcache <> 1 then 'alter sequence rowcast.outbox_id cache 1;' end
    from pg_sequence
   where seqrelid = 'rowcast.outbox_id'::regclass
),

notify_queue(state, detail, remedy) as (
  select case when is_filling then 'warn' else 'ok' end,
         to_char(100 * pg_notification_queue_usage(), 'FM990.0') || ' % of the queue in use',
         case when is_filling then
           'a listener does not read: look for long transactions of sessions that ran LISTEN'
         end
    from (select pg_notification_queue_usage() > 0.25) q(is_filling)
),

doorbell(state, detail, remedy) as (
  select case when fails_to_prepare or listeners > 0 then 'warn' else 'ok' end,
         'notify = ' || rowcast.bell_mode()
           || case
                when listeners > 0 then
                  ': bells carry rows, and login roles that may not read all of these tables can LISTEN: ' || listeners
                else ''
              end,
         case
           when fails_to_prepare then
             'PREPARE TRANSACTION fails after a NOTIFY: select rowcast.configure(''notify'', ''never'');'
           when listeners > 0 then 'select rowcast.configure(''notify'', ''empty'');'
         end
    from (
      select rowcast.bell_mode() <> 'never' and current_setting('max_prepared_transactions')::int > 0
    ) p(fails_to_prepare)
   cross join lateral (
     select case when rowcast.bell_mode() in ('row', 'always') then (
       select count(*)
         from pg_roles r
        where r.rolcanlogin
          and not r.rolsuper
          and not pg_has_role(r.oid, 'rowcast_relay', 'usage')
          and has_database_privilege(r.oid, current_database(), 'connect')
          and exists (select from rowcast.channel c
                       where c.target is not null
                         and exists (select from pg_class t where t.oid = c.target)
                         and not has_table_privilege(r.oid, c.target, 'select'))
     ) else 0 end
   ) l(listeners)
),

oldest_transaction(state, detail, remedy) as (
  select case when is_old then 'warn' else 'ok' end,
         coalesce('pid ' || a.pid || ', open for ' || date_trunc('second', clock_timestamp() - a.xact_start), 'none'),
         case
           when is_old then
             'its own changes are sent when it ends; '
             'if it is forgotten: select pg_terminate_backend(' || a.pid || ');'
         end
    from (select 1) one
    left join lateral (
      select pid, xact_start, xact_start < now() - interval '10 minutes' as is_old
        from pg_stat_activity
       where datname = current_database() and backend_xid is not null and pid <> pg_backend_pid()
       order by xact_start
       limit 1
    ) a on true
),

prepared_transactions(state, detail, remedy) as (
  select case when count(*) > 0 and min(prepared) < now() - interval '10 minutes' then 'warn' else 'ok' end,
         count(*) || ' open',
         case
           when count(*) > 0 and min(prepared) < now() - interval '10 minutes' then
             'select gid, prepared, owner from pg_prepared_xacts;'
         end
    from pg_prepared_xacts
   where database = current_database()
)

select finding, state, detail, remedy
  from (select 1, 'relays', * from relays
        union all select 2, 'capture', * from capture
        union all select 3, 'channels', * from channels
        union all select 4, 'triggers', * from triggers
        union all select 4.1, 'claims', * from claims
        union all select 5, 'new tables', * from new_tables
        union all select 6, 'silent tables', * from silent_tables
        union all select 7, 'publications', * from publications
        union all select 8, 'outbox', * from size
        union all select 8.1, 'brief outbox', * from brief_outbox
        union all select 9, 'retention', * from retention
        union all select 10, 'sequence', * from sequence
        union all select 11, 'notify queue', * from notify_queue
        union all select 12, 'doorbell', * from doorbell
        union all select 13, 'oldest transaction', * from oldest_transaction
        union all select 14, 'prepared transactions', * from prepared_transactions
       ) all_of_them(sort, finding, state, detail, remedy)
 order by sort;
comment on view rowcast.health is 'findings for an operator: ok, warn or fail, and what to do';
