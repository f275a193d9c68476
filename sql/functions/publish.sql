-- rowcast.publish(channel, action, data) -> void
-- A realtime_update on a channel, with or without a table, if and when the caller's transaction commits.
-- tables touched: rowcast.channel (select), rowcast.outbox_0..2 (insert)
create or replace function rowcast.publish(channel text, action text, data jsonb)
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  body pg_catalog.json;
  channel_id pg_catalog.int4;
begin
  select c.id into channel_id from rowcast.channel c where c.name operator(pg_catalog.=) channel;
  if channel_id is null then
    raise exception 'cannot publish on channel %: there is no such channel', channel
      using errcode = 'undefined_object', hint = pg_catalog.format('select rowcast.create_channel(%L);', channel);
  end if;
  if action is null or action operator(pg_catalog.=) '' then
    raise exception 'cannot publish on channel %: action must not be empty',
      channel using errcode = 'invalid_parameter_value';
  end if;
  body := pg_catalog.json_build_object('action', action, 'data', data);
  if rowcast.append(channel_id, 'P', null, body, rowcast.actor(), null) then
    perform rowcast.ring(channel, 'P', body);
  end if;
end $$;
comment on function rowcast.publish(text, text, jsonb) is
  'sends a realtime_update on a channel when the transaction commits';
