-- rowcast.drop_channel(name) -> boolean
-- Removes a channel that has no table; false where there is none. A table's channel goes with rowcast.unwatch.
create or replace function rowcast.drop_channel(name text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  gone rowcast.channel;
begin
  select * into gone from rowcast.channel c where c.name = drop_channel.name;
  if not found then
    return false;
  end if;
  if gone.target is not null then
    raise exception 'cannot drop channel %: table % feeds it', gone.name, gone.target
      using errcode = 'object_in_use', hint = format('select rowcast.unwatch(%L);', gone.target);
  end if;
  delete from rowcast.channel c where c.id = gone.id;
  if rowcast.append(gone.id, 'C', null, null, rowcast.actor(), null) then
    perform rowcast.ring(gone.name, 'C', null);
  end if;
  return true;
end $$;
comment on function rowcast.drop_channel(text) is 'removes a channel that has no table';
