-- outbox_growth.sql: how large is the outbox, what fills it, and how fast does it grow?
--   psql -d DATABASE -f sql/inspect/outbox_growth.sql
--
-- Rights: member of rowcast_relay. The counts read the whole outbox: on a large one (see the first result, which is
-- cheap) run it at a quiet hour.
--
-- How to read it: new rows go to one segment, the one with the highest last_id; rowcast.prune empties the others in
-- turn, as a whole. rowcast.health ("retention") says what keeps it from that. Bytes of a segment hold table, index
-- and TOAST; rows_estimated is -1 where nothing has analysed it yet. Bytes by channel and by hour are the rows as
-- stored (after compression, without page and index overhead), so their sum is below the first result. An hour is by
-- the writer's clock.
-- old_share is the part of the bytes that old row images take: an update of a row of up to 950 bytes stores it twice.

set search_path = pg_catalog, pg_temp;

\echo 'Segments: on disk'
select c.oid::regclass as segment,
       pg_size_pretty(pg_total_relation_size(c.oid)) as bytes,
       pg_size_pretty(pg_indexes_size(c.oid)) as of_that_index,
       c.reltuples::bigint as rows_estimated
  from pg_class c join pg_inherits i on i.inhrelid = c.oid
 where i.inhparent = 'rowcast.outbox'::regclass
 order by c.relname;

\echo 'Segments: rows'
select tableoid::regclass as segment,
       count(*) as rows,
       min(id) as first_id,
       max(id) as last_id,
       min(at) as oldest,
       max(at) as newest
  from rowcast.outbox
 group by tableoid
 order by 1;

\echo 'By channel'
select coalesce(
  c.name,
  case when o.op = 'N' then '(rowcast.notify)' else '(gone, id ' || o.channel || ')' end) as channel,
       count(*) as rows,
       pg_size_pretty(sum(pg_column_size(o.*))) as bytes,
       round(avg(pg_column_size(o.*))) as bytes_per_row,
       round(100.0 * sum(coalesce(pg_column_size(o.old), 0)) / sum(pg_column_size(o.*)), 1) || ' %' as old_share
  from rowcast.outbox o left join rowcast.channel c on c.id = o.channel
 group by 1
 order by sum(pg_column_size(o.*)) desc;

\echo 'By hour, the last 48'
select date_trunc('hour', at) as hour,
       count(*) as rows,
       count(distinct xid) as transactions,
       pg_size_pretty(sum(pg_column_size(o.*))) as bytes
  from rowcast.outbox o
 where at > now() - interval '48 hours'
 group by 1
 order by 1 desc;
