-- rowcast.append(channel id, op, old, new, actor, users) -> bool, whether to ring; rowcast.append_brief
-- Writes one row into the segment of the outbox that takes new rows, then tests whether anybody needs a bell. Runs with
-- the rights of its caller. rowcast.capture has the same statement in line, for rows without anything special. The
-- second one is for changes of tables that are kept briefly, which have segments of their own.
--
-- While capture is paused or the outbox is full only what steers the relay is written: a channel or a policy that
-- changed, a user who was revoked.
--
-- The order is what the relay's barrier relies on: the transaction id is drawn by the insert, before the lock is
-- tested. Test and release are one expression: as two statements, a cancel between them left the lock held for good.
do $do$
declare
  into_segment text := $insert$
    insert into rowcast.outbox_%1$s (channel, op, old, new, actor, users, depth)
      values (append%2$s.channel, append%2$s.op, append%2$s.old, append%2$s.new, append%2$s.actor, append%2$s.users,
              pg_catalog.pg_trigger_depth());$insert$;
  outbox pg_catalog.record;
begin
  for outbox in values ('', 0), ('_brief', 3) loop
    execute pg_catalog.format($function$
create or replace function rowcast.append%4$s(channel int, op "char", old json, new json, actor text, users text[])
returns bool language plpgsql as $body$
declare
  state pg_catalog.int8 := pg_catalog.pg_sequence_last_value('rowcast.capture_state%4$s'::pg_catalog.regclass);
  segment pg_catalog.int8 := case
    when append%4$s.op operator(pg_catalog.=) any ('{C,R}'::pg_catalog."char"[])
    then state operator(pg_catalog.%%) 3
    else state end;
begin
  if segment operator(pg_catalog.=) 0 then%1$s
  elsif segment operator(pg_catalog.=) 1 then%2$s
  elsif segment operator(pg_catalog.=) 2 then%3$s
  else
    return false;
  end if;
  if pg_catalog.hashint8(pg_catalog.currval('rowcast.outbox_id'::pg_catalog.regclass))
    operator(pg_catalog.>=) 2143289344 then
    perform rowcast.bound_outbox%4$s();
  end if;
  return rowcast.bell_mode() operator(pg_catalog.<>) 'never'
    and (rowcast.bell_mode() operator(pg_catalog.=) 'always'
         or (pg_catalog.pg_try_advisory_lock_shared(1919907683, 1)
           and pg_catalog.pg_advisory_unlock_shared(1919907683, 1)));
end $body$ $function$,
    pg_catalog.format(into_segment, outbox.column2, outbox.column1),
    pg_catalog.format(into_segment, outbox.column2 operator(pg_catalog.+) 1, outbox.column1),
    pg_catalog.format(into_segment, outbox.column2 operator(pg_catalog.+) 2, outbox.column1),
    outbox.column1);
  end loop;
end $do$;
comment on function rowcast.append(int, "char", json, json, text, text[]) is
  'writes one row into the outbox; says whether the doorbell is to be rung';
comment on function rowcast.append_brief(int, "char", json, json, text, text[]) is
  'the same for tables that are kept briefly';
