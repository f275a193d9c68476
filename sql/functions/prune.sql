-- rowcast.prune() -> text, what was done
-- Drops changes that are older than the setting retention, or beyond the setting outbox_size, a whole segment at a
-- time: TRUNCATE, never DELETE. `rowcast serve` calls it each minute; calling it more often does no harm.
--
-- The three segments take turns. New rows go to the segment that was opened last. After half of the retention (or a
-- third of the size) the next one is opened, if it is empty. A segment that takes no new rows is closed: once no
-- transaction that wrote to it is left, a snapshot is kept that sees all of it. When that is older than the retention,
-- the segment is emptied, and the snapshot becomes the floor: a cursor that does not see all the floor sees is answered
-- with `gap`.
--
-- What a node that lives has not read yet stays, however old it is, unless the size is exceeded: a publisher whose
-- Redis is away for a day goes on where it was.
--
-- No lock is waited for: a segment that somebody reads or writes is left for the next time. No DDL: an application's
-- event trigger may refuse it, or fail under our search_path.
--
-- Where the outbox was full, capture goes on once there is room, and the floor is raised (see rowcast.note_left_out).
--
-- Tables that are kept briefly have three segments, a retention, a size, a state and a floor of their own. All of it
-- is the same for them.
-- tables touched: rowcast.segment, rowcast.installation (update), rowcast.outbox_0..5 (truncate), rowcast.node (read),
-- sequences rowcast.capture_state, capture_state_brief
create or replace function rowcast.prune() returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  done text[];
begin
  -- a table's lock, for which one needs a right: a number might be held by anybody
  begin
    lock table rowcast.segment in share row exclusive mode nowait;
  exception when lock_not_available then
    return 'another session prunes: ' || rowcast.holders('rowcast.segment');
  end;
  done := rowcast.prune_part(false);
  if exists (select from rowcast.segment where number > 2 and opened_at is not null) then
    done := done || rowcast.prune_part(true);
  end if;
  return coalesce(nullif(array_to_string(done, '; '), ''), 'nothing to do');
end $$;
comment on function rowcast.prune() is 'drops changes older than the retention, a segment at a time';

-- rowcast.prune_part(briefly) -> text[], what was done
-- One of the two: the outbox, or that of tables that are kept briefly. The caller holds the lock of rowcast.segment.
create or replace function rowcast.prune_part(briefly boolean) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
declare
  first int := case when briefly then 3 else 0 end;
  retention interval := case
    when briefly then coalesce((select value from rowcast.setting where name = 'brief_retention'), '1 hour')
                             else coalesce(
                               (select value from rowcast.setting where name = 'retention'),
                               '24 hours') end;
  most bigint := pg_size_bytes(case
    when briefly then coalesce((select value from rowcast.setting where name = 'brief_size'), '1 GB')
                                    else coalesce(
                                      (select value from rowcast.setting where name = 'outbox_size'),
                                      '10 GB') end);
  states regclass := case when briefly then 'rowcast.capture_state_brief' else 'rowcast.capture_state' end;
  size bigint := (select sum(pg_total_relation_size(format('rowcast.outbox_%s', number)))
                    from rowcast.segment
                   where number / 3 = first / 3);
  is_paused bool;
  state bigint;
  current rowcast.segment;
  old rowcast.segment;
  next int;
  stray bool;
  done text[] := '{}';
  emptied int[] := '{}';
begin
  -- a clock that was ahead: nothing was opened or closed later than now, and what was opened last stays the last
  update rowcast.segment s
     set opened_at = s.opened_at - greatest(ahead.latest - clock_timestamp(), interval '0'),
         closed_at = least(s.closed_at, clock_timestamp())
    from (select max(opened_at) from rowcast.segment where number / 3 = first / 3) ahead(latest)
   where s.number / 3 = first / 3 and (ahead.latest > clock_timestamp() or s.closed_at > clock_timestamp());

  select * into current
    from rowcast.segment
   where number / 3 = first / 3 and opened_at is not null
   order by opened_at desc
   limit 1;

  for old in select *
               from rowcast.segment
              where number / 3 = first / 3 and opened_at < current.opened_at
              order by opened_at loop
    begin
      if old.closed is null then
        -- share mode: nobody has written to it in a transaction that still runs, a prepared one included
        execute format('lock table rowcast.outbox_%s in share mode nowait', old.number);
        update rowcast.segment
          set closed = pg_current_snapshot(), closed_at = clock_timestamp()
         where number = old.number;
        done := done || format('segment %s is closed', old.number);
      end if;
      exit when old.closed is null or not (old.closed_at < clock_timestamp() - retention or size > most);
      if size <= most and exists (
        select from rowcast.node n where n.seen_at > clock_timestamp() - interval '1 minute'
           -- what another one publishes is no longer this one's
           and (n.role <> 'candidate' or not exists (select from rowcast.node p
                 where p.role = 'publisher'
                   and p.seen is not null
                   and p.seen_at > clock_timestamp() - interval '1 minute'))
           and (pg_snapshot_xmax(n.seen) < pg_snapshot_xmax(old.closed)
                or exists (select from pg_snapshot_xip(n.seen) open
                            where pg_visible_in_snapshot(open, old.closed)))) then
        done := done || format('segment %s is kept: a node has not read it yet', old.number);
        exit;
      end if;
      execute format('lock table rowcast.outbox_%s in access exclusive mode nowait', old.number);
      -- a session that had not seen the change of segments may have added a row after the snapshot was taken, which
      -- does not see it. By the index, since relays wait meanwhile, and give up after a second
      execute format(
        'select exists (select from rowcast.outbox_%1$s where xid >= pg_snapshot_xmax($1))
             or exists (select from rowcast.outbox_%1$s where xid = any (array(select pg_snapshot_xip($1))))',
        old.number) into stray
        using old.closed;
      if stray then
        update rowcast.segment
          set closed = pg_current_snapshot(), closed_at = clock_timestamp()
         where number = old.number;
        exit;
      end if;
      size := size - pg_total_relation_size(format('rowcast.outbox_%s', old.number));
      execute format('truncate rowcast.outbox_%s', old.number);
      emptied := emptied || old.number;
      update rowcast.segment set opened_at = null, closed = null, closed_at = null where number = old.number;
      update rowcast.installation i set brief_floor = old.closed, brief_floored_by = pg_current_xact_id()
       where briefly
         and (i.brief_floor is null
           or (pg_snapshot_xmax(old.closed), -(select count(*) from pg_snapshot_xip(old.closed)))
                                                >= (
                                                  pg_snapshot_xmax(i.brief_floor),
                                                  -(select count(*) from pg_snapshot_xip(i.brief_floor))));
      update rowcast.installation i set floor = old.closed
       -- not back behind what rowcast.note_left_out has set
       where not briefly
         and (i.floor is null or (pg_snapshot_xmax(old.closed), -(select count(*) from pg_snapshot_xip(old.closed)))
                             >= (pg_snapshot_xmax(i.floor), -(select count(*) from pg_snapshot_xip(i.floor))));
      done := done || format('segment %s is emptied: its changes were older than %s', old.number, old.closed_at);
    exception when lock_not_available then
      done := done || format('segment %s is in use', old.number);
      exit;
    end;
  end loop;

  -- as rowcast.pause and rowcast.resume do: the session that has it sets the state
  begin
    perform from rowcast.installation for update nowait;
  exception when lock_not_available then
    return done || 'another session pauses or resumes capture'::text;
  end;
  is_paused := exists (select from rowcast.setting where name = 'paused');
  state := first + pg_sequence_last_value(states);
  if current.opened_at < clock_timestamp() - retention / 2
     or pg_total_relation_size(format('rowcast.outbox_%s', current.number)) > most / 3 then
    select number into next
      from rowcast.segment
     where number / 3 = first / 3 and opened_at is null
       -- one that was emptied just now is locked until the commit, and writers would wait: it has its turn the next
       -- time, unless nothing is captured meanwhile
       and (number <> all (emptied) or state >= first + 3)
     order by (number - current.number + 3) % 3
     limit 1;
    if found then
      update rowcast.segment set opened_at = clock_timestamp() where number = next;
      current.number := next;
      done := done || format('segment %s takes new changes', next);
    end if;
  end if;
  -- the state follows what the tables say, whatever became of the transaction that last changed it
  if is_paused then
    if state <> current.number + 6 then
      perform setval(states, current.number - first + 6);
    end if;
  elsif state < first + 3 then
    if state <> current.number then
      perform rowcast.write_to(current.number);
    end if;
  elsif current_setting('transaction_isolation') <> 'read committed' then
    done := done
      || 'changes are left out: call rowcast.prune() at read committed, for the floor has to see what began '
         'meanwhile'::text;
  elsif state >= first + 6
    or (size <= most * 2 and pg_total_relation_size(format('rowcast.outbox_%s', current.number)) <= most / 3) then
    perform rowcast.write_to(current.number);
    -- a transaction that still runs now may have left something out since an earlier time, too
    update rowcast.installation
      set left_out_until = case when briefly then left_out_until end,
          brief_left_out_until = case when not briefly then brief_left_out_until end;
    perform rowcast.note_left_out(briefly);
    done := done || 'changes are captured again: some were left out'::text;
  else
    done := done || 'changes are left out: the outbox is full'::text;
  end if;
  if current_setting('transaction_isolation') = 'read committed'
    and exists (select from rowcast.installation i
                 cross join lateral (select case
                   when briefly then i.brief_left_out_until
                   else i.left_out_until end) u(until)
                 where pg_snapshot_xmin(pg_current_snapshot()) >= u.until) then
    perform rowcast.note_left_out(briefly);
  end if;
  return done;
end $$;
comment on function rowcast.prune_part(boolean) is
  'what rowcast.prune does with the outbox, or with that of tables that are kept briefly';
