-- rowcast.append(channel id, op, old, new, actor, users) -> bool, whether to ring
-- Writes one row into the segment of the outbox that takes new rows, then tests whether anybody needs a bell. Runs with
-- the rights of its caller. rowcast.capture has the same statement in line, for rows without anything special.
--
-- "outbox_0" is rewritten by rowcast.write_to when the segments take turns: a constant costs nothing a row.
--
-- The order is what the relay's barrier relies on: the transaction id is drawn by the insert, before RETURNING tests
-- the lock. Test and release are one expression: as two statements, a cancel between them left the lock held for good.
create or replace function rowcast.append(channel int, op "char", old json, new json, actor text, users text[])
returns bool language plpgsql as $$
declare
  rings pg_catalog.bool;
begin
  insert into rowcast.outbox_0 (channel, op, old, new, actor, users)
    values (append.channel, append.op, append.old, append.new, append.actor, append.users)
    returning rowcast.bell_mode() operator(pg_catalog.<>) 'never'
      and (rowcast.bell_mode() operator(pg_catalog.=) 'always'
           or (pg_catalog.pg_try_advisory_lock_shared(1919907683, 1) and pg_catalog.pg_advisory_unlock_shared(1919907683, 1)))
    into rings;
  return rings;
end $$;
comment on function rowcast.append(int, "char", json, json, text, text[]) is 'writes one row into the outbox; says whether the doorbell is to be rung';
