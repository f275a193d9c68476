-- rowcast.unwatch(target) -> boolean
-- Stops capturing a table; false where it was not watched. Its channel is gone with it.
-- tables touched: rowcast.channel (delete), rowcast.outbox_0..2 (insert)
create or replace function rowcast.unwatch(target regclass) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  gone rowcast.channel;
begin
  select * into gone from rowcast.channel c where c.target = unwatch.target;
  if not found then
    return false;
  end if;
  if exists (select from pg_class where oid = target) then
    perform rowcast.lock_for_triggers(target);
    perform rowcast.remove_triggers(target);
    execute format('revoke select on %s from rowcast_relay', target);
  else
    execute format('drop function if exists rowcast.users_of_%s()', target::oid);
  end if;
  delete from rowcast.channel c where c.id = gone.id;
  if rowcast.append(gone.id, 'C', null, null, rowcast.actor(), null) then
    perform rowcast.ring(gone.name, 'C', null);
  end if;
  return true;
end $$;
comment on function rowcast.unwatch(regclass) is 'stops capturing a table';
