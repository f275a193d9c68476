-- rowcast.deny(channel, role) -> boolean
-- Takes back what rowcast.allow has stated; false where nothing was. Open sockets of the role lose the channel within a
-- second.
-- tables touched: rowcast.policy (delete), rowcast.outbox_0..2 (insert)
create or replace function rowcast.deny(channel text, role text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from rowcast.policy p where p.channel = deny.channel and p.role = deny.role;
  if not found then
    return false;
  end if;
  perform rowcast.tell_policy(channel);
  return true;
end $$;
comment on function rowcast.deny(text, text) is 'takes a role''s access to a channel back';
