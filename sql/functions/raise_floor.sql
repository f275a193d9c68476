-- rowcast.raise_floor(channel id) -> void
-- What of the channel was captured until now is told to no client any more that has not had it: its subscribers are
-- told `gap`, `policy`, and so is a client that comes back with a cursor from before. rowcast.note_exposure does it by
-- itself where a channel's row changes; this is for what is said elsewhere.
-- tables touched: rowcast.channel (update), rowcast.outbox_0..2 (insert)
create or replace function rowcast.raise_floor(channel_id int) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  raised text;
begin
  update rowcast.channel c
    set floor = rowcast.floor_now(), floored_by = pg_current_xact_id()
   where c.id = channel_id
    returning c.name into raised;
  if found and rowcast.append(channel_id, 'C', null, null, rowcast.actor(), null) then
    perform rowcast.ring(raised, 'C', null);
  end if;
end $$;
comment on function rowcast.raise_floor(int) is
  'what of a channel was captured until now is told to nobody any more who comes back';
