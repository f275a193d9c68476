-- rowcast.note_life() -> table(number, life, bound), all lives of the server so far, the present one last
-- Called by a relay when it connects, and for each snapshot. A life ends with each restart, crash or promotion.
-- Whether it ended cleanly is told by the unlogged table rowcast.alive, which only a crash or a promotion empties.
-- After one, cursors of earlier lives are good up to the last durable position that was noted and survived: a row that
-- survived every crash since proves that everything before the position in it did as well, however many crashes nobody
-- saw. A database that was restored from a dump has changes of transactions that its own server has not begun: they
-- would be read as new again and again. They are emptied out, and a client that held a cursor of theirs begins anew. A
-- crash empties the application's unlogged tables: their channels are told `gap`.
-- tables touched: rowcast.incarnation, rowcast.alive (insert); after a crash rowcast.channel (update); then also
-- rowcast.outbox_0..5, segment, installation
create or replace function rowcast.note_life() returns table (number int, life text, bound pg_lsn)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
-- without statistics Postgres would read all of the outbox where the index answers at once
set enable_seqscan = off set jit = off as $$
declare
  present text := rowcast.present_life();
  last rowcast.incarnation;
  survived bool;
  had_life bool;
begin
  -- mostly there is nothing to note, and nobody to wait for
  select * into last from rowcast.incarnation i order by i.number desc limit 1;
  if last.life = present and exists (select from rowcast.alive a where a.incarnation = last.number)
     and not exists (select from rowcast.outbox o where o.xid >= pg_snapshot_xmax(pg_current_snapshot()))
     and not exists (select from rowcast.installation i
                      where greatest(pg_snapshot_xmax(i.floor), pg_snapshot_xmax(i.brief_floor))
                         > pg_snapshot_xmax(pg_current_snapshot())) then
    return query select i.number, i.life, i.bound from rowcast.incarnation i order by i.number;
    return;
  end if;
  -- one after the other. A lock on a table, for which one needs a right, and not a number that anybody may hold
  begin
    lock table rowcast.alive in share row exclusive mode;
  exception when lock_not_available then
    raise exception 'cannot note the server''s life: rowcast.alive is locked by %', rowcast.holders('rowcast.alive')
      using errcode = 'lock_not_available',
        hint = 'if that transaction is forgotten, end it with its pid from above: select pg_terminate_backend(PID);';
  end;
  if exists (select from rowcast.outbox o where o.xid >= pg_snapshot_xmax(pg_current_snapshot()))
     or exists (select from rowcast.installation i
                 where greatest(pg_snapshot_xmax(i.floor), pg_snapshot_xmax(i.brief_floor))
                         > pg_snapshot_xmax(pg_current_snapshot())) then
    -- no writer may wait behind this: it is tried again at the next connect
    perform set_config('lock_timeout', '200ms', true);
    truncate rowcast.outbox_0, rowcast.outbox_1, rowcast.outbox_2, rowcast.outbox_3, rowcast.outbox_4, rowcast.outbox_5;
    update rowcast.segment s
      set opened_at = case
        when s.number = 0
          or (s.number = 3 and exists (select from rowcast.segment b where b.number > 2 and b.opened_at is not null))
          then now() end,
          closed = null,
          closed_at = null;
    update rowcast.installation set id = gen_random_uuid(), floor = pg_current_snapshot(), left_out_until = null,
                                    brief_floor = null, brief_floored_by = null, brief_left_out_until = null;
    delete from rowcast.incarnation;
    perform rowcast.write_to(0), rowcast.write_to(3);
  end if;
  select * into last from rowcast.incarnation i order by i.number desc limit 1;
  had_life := last.number is not null;
  survived := exists (select from rowcast.alive a where a.incarnation = last.number);
  if last.number is null or not survived or last.life <> present then
    insert into rowcast.incarnation (life, bound) values (present, case when not survived then last.durable end)
      returning * into last;
    delete from rowcast.alive;
    insert into rowcast.alive values (last.number);
    -- what emptied rowcast.alive has emptied every other unlogged table as well, and no trigger has seen it
    if had_life and not survived then
      perform rowcast.raise_floor(u.channel) from (
        with recursive part(channel, relid) as (
          select c.id, c.target::oid from rowcast.channel c where c.target is not null
          union select p.channel, i.inhrelid
            from part p
            join pg_class k on k.oid = p.relid and k.relkind = 'p'
            join pg_inherits i on i.inhparent = p.relid)
        select distinct p.channel from part p join pg_class t on t.oid = p.relid where t.relpersistence = 'u'
      ) u(channel);
    end if;
  end if;
  return query select i.number, i.life, i.bound from rowcast.incarnation i order by i.number;
end $$;
comment on function rowcast.note_life() is 'notes the present life of the server; gives all of them';
