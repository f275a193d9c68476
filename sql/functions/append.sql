-- rowcast.append(channel id, op, old, new, actor, users) -> bool, true
-- Writes one row into the current segment of the outbox: the only place that does. Runs with the rights of its
-- caller (the capture role, or the installer in watch and unwatch). It returns something so that the trigger can call
-- it in an assignment: `perform` runs a query, which costs several microseconds a row.
create or replace function rowcast.append(channel int, op "char", old json, new json, actor text, users text[])
returns bool language plpgsql as $$
begin
  if rowcast.segment() operator(pg_catalog.=) 0 then
    insert into rowcast.outbox_0 (channel, op, old, new, actor, users) values (append.channel, append.op, append.old, append.new, append.actor, append.users);
  elsif rowcast.segment() operator(pg_catalog.=) 1 then
    insert into rowcast.outbox_1 (channel, op, old, new, actor, users) values (append.channel, append.op, append.old, append.new, append.actor, append.users);
  else
    insert into rowcast.outbox_2 (channel, op, old, new, actor, users) values (append.channel, append.op, append.old, append.new, append.actor, append.users);
  end if;
  return true;
end $$;
comment on function rowcast.append(int, "char", json, json, text, text[]) is 'writes one row into the current segment of the outbox';
