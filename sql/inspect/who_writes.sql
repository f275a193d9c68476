-- who_writes.sql: who changes watched tables, and how much?
--   psql -d DATABASE -f sql/inspect/who_writes.sql
--   psql -d DATABASE -v minutes=5 -f sql/inspect/who_writes.sql     default: the last 60 minutes
--
-- Rights: member of rowcast_relay. It reads the whole outbox once (there is no index by time).
--
-- How to read it: actor is the setting rowcast.actor where the writer set it, else session user/application_name.
-- Any writer can choose both texts: they help to find a program, they prove nothing. per_tx far above 1 is a bulk
-- statement. Writes under rowcast.mute = on are not captured, so they are not here.

set search_path = pg_catalog, pg_temp;

\if :{?minutes}
\else
  \set minutes 60
\endif

select o.actor,
       coalesce(
         c.name,
         case when o.op = 'N' then '(rowcast.notify)' else '(gone, id ' || o.channel || ')' end) as channel,
       count(*) as changes,
       count(*) filter (where o.op = 'I') as created,
       count(*) filter (where o.op = 'U') as updated,
       count(*) filter (where o.op = 'D') as deleted,
       count(*) filter (where o.op not in ('I', 'U', 'D')) as other,
       count(distinct o.xid) as transactions,
       round(count(*)::numeric / count(distinct o.xid), 1) as per_tx,
       max(o.at) as last_at
  from rowcast.outbox o left join rowcast.channel c on c.id = o.channel
 where o.at > now() - make_interval(mins => :minutes)
 group by 1, 2
 order by changes desc;
