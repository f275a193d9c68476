-- rowcast.create_channel(name) -> void
-- A channel without a table, for rowcast.publish. Idempotent.
-- tables touched: rowcast.channel (insert), rowcast.outbox_0..2 (insert)
create or replace function rowcast.create_channel(name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  channel_id int;
begin
  insert into rowcast.channel (name, singular) values (create_channel.name, create_channel.name)
    on conflict on constraint channel_name_taken do nothing returning id into channel_id;
  if channel_id is not null then
    if rowcast.append(channel_id, 'C', null, null, rowcast.actor(), null) then
      perform rowcast.ring(create_channel.name, 'C', null);
    end if;
  end if;
end $$;
comment on function rowcast.create_channel(text) is 'makes a channel without a table, for rowcast.publish';
-- Numbers of channels stand in triggers, and a dump carries triggers: with small numbers a table from another
-- installation would be told on the channel that has its number here. A number that no channel has is told nowhere.
select setval('rowcast.channel_id_seq', 1000000 + floor(random() * 1000000000)::bigint)
  from rowcast.channel_id_seq where last_value < 1000000;
