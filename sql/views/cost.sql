-- rowcast.cost: what capture costs, by table, the dearest first. Counted in the outbox, so it speaks of the changes
-- that are kept; of a large outbox about a thousand blocks are looked at, chosen by chance, and the figures are
-- projections then. Nothing is counted while a row is written. What surrounds the images, 100 bytes of the outbox and
-- 170 of the WAL, was measured with benches/wal.
create view rowcast.cost as
with outbox(blocks, since, since_briefly) as (
  select sum(pg_relation_size(t.relation)) / current_setting('block_size')::int,
         min(s.opened_at) filter (where pg_relation_size(t.relation) > 0 and s.number < 3),
         min(s.opened_at) filter (where pg_relation_size(t.relation) > 0 and s.number > 2)
    from rowcast.segment s cross join lateral (select format('rowcast.outbox_%s', s.number)::regclass) t(relation)
), looked(share) as (
  select least(1, 1000 / greatest(blocks, 1)) from outbox
), trigger_time(briefly, us) as (
  select briefly, (1000 * pg_stat_get_function_total_time(p) / nullif(pg_stat_get_function_calls(p), 0))::numeric
    from (values (false, 'rowcast.capture()'::regprocedure::oid), (true, 'rowcast.capture_brief()'::regprocedure::oid))
      f(briefly, p)
), counted as (
  select o.channel, count(*) as changes, sum(s.old) as old_bytes, sum(s.new) as new_bytes,
         -- out of line, two kilobytes at a time, each with a row and an entry of an index
         sum(0.08 * (s.old * (s.old > 2000)::int + s.new * (s.new > 2000)::int)) as chunks,
         count(*) filter (where s.old > 2000 or s.new > 2000) as large,
         count(*) filter (where o.op in ('i', 'u', 'd')) as omitted
    from rowcast.outbox o tablesample system ((select 100 * share from looked))
   cross join lateral (select coalesce(pg_column_size(o.old), 0), coalesce(pg_column_size(o.new), 0)) s(old, new)
   where o.op not in ('C', 'R', 'N')
   group by o.channel
)
select c.name as channel, c.target as "table", n.changes,
       round(
         n.changes / greatest(
           1,
           extract(epoch from clock_timestamp() - case when c.briefly then o.since_briefly else o.since end)),
         3) as per_second,
       n.old_bytes + n.new_bytes + n.chunks + 100 * n.changes as outbox_bytes, n.old_bytes, n.new_bytes,
       n.old_bytes + n.new_bytes + n.chunks + 170 * n.changes as wal_bytes,
       n.large, n.omitted, round(t.us, 1) as trigger_us, round(100 * l.share, 2) as looked_at
  from rowcast.channel c
 cross join outbox o cross join looked l
  join trigger_time t on t.briefly = c.briefly
  left join counted k on k.channel = c.id
 cross join lateral (
   select round(coalesce(k.changes, 0) / l.share)::bigint as changes,
          round(coalesce(k.old_bytes, 0) / l.share)::bigint as old_bytes,
          round(coalesce(k.new_bytes, 0) / l.share)::bigint as new_bytes,
          round(coalesce(k.chunks, 0) / l.share)::bigint as chunks,
          round(coalesce(k.large, 0) / l.share)::bigint as large,
          round(coalesce(k.omitted, 0) / l.share)::bigint as omitted) n
 order by outbox_bytes desc, c.name;
comment on view rowcast.cost is 'what capture costs by table, of the changes that the outbox keeps: the dearest first';
comment on column rowcast.cost.changes is 'changes that the outbox keeps';
comment on column rowcast.cost.per_second is 'changes a second, since the oldest segment of the outbox was opened';
comment on column rowcast.cost.outbox_bytes is 'what they take of the outbox, index included';
comment on column rowcast.cost.old_bytes is 'of that the rows as they were before';
comment on column rowcast.cost.new_bytes is 'of that the rows as they were afterwards';
comment on column rowcast.cost.wal_bytes is 'what they have added to the WAL, about; without images of whole pages';
comment on column rowcast.cost.large is 'changes of rows that are stored out of line: TOAST';
comment on column rowcast.cost.omitted is 'changes told by their key alone: the row was longer than row_bytes';
comment on column rowcast.cost.trigger_us is
  'microseconds of a call of the trigger, over all tables with the same one; null unless track_functions is pl or all';
comment on column rowcast.cost.looked_at is 'per cent of the outbox that the figures come from';
