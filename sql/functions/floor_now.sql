-- rowcast.floor_now() -> pg_snapshot
-- The present snapshot, and in it this transaction, which it sees as ended: a cursor that sees all of it was given out
-- after this transaction's end. Transaction ids between the snapshot's end and this one are of others that run.
create or replace function rowcast.floor_now() returns pg_snapshot
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select case
           when own < pg_snapshot_xmax(now) then now
           -- a transaction that keeps an old snapshot: all that began before it, then, also what still runs
           when own::text::int8 - pg_snapshot_xmax(now)::text::int8 > 10000
             then format('%1$s:%1$s:', own::text::int8 + 1)::pg_snapshot
           else format('%s:%s:%s', pg_snapshot_xmin(now), own::text::int8 + 1, (
                  select string_agg(running::text, ',' order by running)
                    from (select xip::text::int8 from pg_snapshot_xip(now) xip
                          union select generate_series(
                            pg_snapshot_xmax(now)::text::int8,
                            own::text::int8 - 1)) r(running)))::pg_snapshot
         end
    from (select pg_current_xact_id(), pg_current_snapshot()) here(own, now);
$$;
comment on function rowcast.floor_now() is 'the present snapshot with this transaction in it';
