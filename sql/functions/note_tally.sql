-- rowcast.note_tally() -> table(channel, rows), what was written since the last call where nothing was captured
-- Compares what Postgres has counted in each watched table (pg_stat_user_tables) with what the outbox has of it. It
-- finds what the catalogue does not show: rowcast.mute or session_replication_role = replica in a session, a trigger
-- that was off for a moment. `rowcast serve` calls it each minute, rowcast.health says what it found. Writers pay
-- nothing.
--
-- Rows inserted and deleted are compared, over all partitions. Not those updated: Postgres counts an update that
-- changes nothing as well. What is said has to be right, so three things are asked for:
--   * nothing at all of the table was captured since the last call;
--   * more was written than was captured, and more than ever. Sessions tell Postgres late what they wrote, at their
--     end or once they are idle; what is counted late was captured long ago;
--   * another number of rows lives: what was rolled back is counted as written, and does not live. ANALYZE and VACUUM
--     estimate that number anew, so in a minute in which one of them ran it says nothing.
-- Where partitions came or went, or subscribers were told `gap` (a pause, a full outbox, a policy), the tally of the
-- table begins anew. The counts are read before the snapshot that the outbox is looked at by, so whatever was counted
-- and captured is there.
--
-- The outbox is read by its index from where the last call ended. Where that was more than ten minutes ago, or nothing
-- is captured (paused, full), the tally begins anew; it begins twice, a minute apart, for what sessions tell late.
-- tables touched: rowcast.tally (insert, update, delete), rowcast.installation (update), rowcast.outbox (select)
create or replace function rowcast.note_tally(out channel text, out rows bigint) returns setof record
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
declare
  counts jsonb;
  before pg_snapshot;
  present pg_snapshot;
  begins bool;
  t record;
begin
  begin
    lock table rowcast.tally in share row exclusive mode nowait;
  exception when lock_not_available then
    return;  -- another relay counts
  end;
  -- partitions are found in pg_inherits: pg_partition_tree opens each, and would wait for a session that has locked one
  select jsonb_object_agg(c.id, jsonb_build_array(n.written, n.living, n.estimated, n.parts)) into counts
    from rowcast.channel c
   cross join lateral (
     with recursive part(relid) as (select c.target::oid
                                     union select i.inhrelid
                                      from part p
                                      -- what is written into a child by plain inheritance is no change of its parent
                                      join pg_class k on k.oid = p.relid and k.relkind = 'p'
                                      join pg_inherits i on i.inhparent = p.relid)
     select sum(pg_stat_get_tuples_inserted(relid) + pg_stat_get_tuples_deleted(relid))::bigint as written,
            sum(pg_stat_get_live_tuples(relid))::bigint as living,
            max(greatest(pg_stat_get_last_analyze_time(relid), pg_stat_get_last_autoanalyze_time(relid),
                         pg_stat_get_last_vacuum_time(relid), pg_stat_get_last_autovacuum_time(relid))) as estimated,
            hashtext(string_agg(relid::text, ' ' order by relid)) as parts
       from part) n
   where c.target is not null;
  select i.tallied, i.tallied is null
    or i.tallied_at < clock_timestamp() - interval '10 minutes'
    or s.last_value >= 3
    or b.last_value >= 3
         or coalesce(pg_snapshot_xmax(i.floor) >= pg_snapshot_xmax(i.tallied), false)
         -- which moves often, behind what was counted
         or coalesce(pg_snapshot_xmax(i.brief_floor) > pg_snapshot_xmax(i.tallied), false) into before, begins
    from rowcast.installation i cross join rowcast.capture_state s cross join rowcast.capture_state_brief b;
  present := pg_current_snapshot();

  for t in
    select c.id, c.name, c.target::oid as target, (n.value ->> 0)::bigint as written, (n.value ->> 1)::bigint as living,
           (n.value ->> 2)::timestamptz as estimated,
           (n.value ->> 3)::int as parts,
           c.floored_by,
           coalesce(k.rows, 0) as fresh,
           old
      from jsonb_each(coalesce(counts, '{}')) n
      join rowcast.channel c on c.id = n.key::int
      left join rowcast.tally old on old.channel = c.id
      left join (
        select o.channel, count(*) as rows from (
            select o.channel, o.op
              from rowcast.outbox o
             where not begins and o.xid >= pg_snapshot_xmax(before) and pg_visible_in_snapshot(o.xid, present)
             union all
            select o.channel, o.op
              from rowcast.outbox o
             where not begins
               and o.xid = any (array(select pg_snapshot_xip(before)))
               and pg_visible_in_snapshot(o.xid, present)
          ) o where o.op in ('I', 'D', 'i', 'd') group by o.channel) k on k.channel = c.id
  loop
    if begins
      or (t.old).channel is null
      or (t.old).target <> t.target
      or t.written < (t.old).written
      or (t.old).surplus is null
       or (t.old).parts is distinct from t.parts
       or (t.floored_by is not null and not pg_visible_in_snapshot(t.floored_by, before)) then
      insert into rowcast.tally as a (channel, target, written, living, captured, estimated, parts)
        values (t.id, t.target, t.written, t.living, t.written, t.estimated, t.parts)
        on conflict on constraint tally_pkey do update
          set target = excluded.target,
              written = excluded.written,
              living = excluded.living,
              captured = excluded.captured,
              estimated = excluded.estimated, parts = excluded.parts,
              surplus = case when not begins and a.target = excluded.target and a.surplus is null then 0 end;
    elsif t.written <> (t.old).written or t.fresh > 0 or t.living <> (t.old).living then
      rows := t.written - (t.old).captured - t.fresh - (t.old).surplus;
      if rows > 0
        and t.fresh = 0
        and t.living <> (t.old).living
        and t.estimated is not distinct from (t.old).estimated then
        update rowcast.tally a
          set silent_rows = note_tally.rows, silent_at = clock_timestamp(), silent_tx = pg_current_xact_id()
         where a.channel = t.id;
        channel := t.name;
        return next;
      end if;
      update rowcast.tally a
         set written = t.written, living = t.living, estimated = t.estimated, captured = a.captured + t.fresh,
             -- what cannot be judged now may be later
             surplus
               = a.surplus + case
                 when t.estimated is distinct from a.estimated then 0
                 else greatest(note_tally.rows, 0) end
       where a.channel = t.id;
    end if;
  end loop;
  delete from rowcast.tally a where not exists (select from rowcast.channel c where c.id = a.channel);
  update rowcast.installation set tallied = present, tallied_at = clock_timestamp();
end $$;
comment on function rowcast.note_tally() is
  'compares what was written into watched tables with what was captured; channels where nothing was';
