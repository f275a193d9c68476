-- rowcast.watch_with_prefix(target, prefix) -> text, the channel
-- rowcast.watch with nothing but a channel's name that begins so: what the calls for a whole schema do with each
-- table. Null where somebody has watched it meanwhile, maybe without some columns.
create or replace function rowcast.watch_with_prefix(target regclass, prefix text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  channel text := rowcast.note_watch(target, null, null, null, '{}', null, null, false, prefix);
begin
  if channel is not null then
    perform rowcast.install_triggers(target);
  end if;
  return channel;
end $$;
comment on function rowcast.watch_with_prefix(regclass, text) is 'watches a table on a channel whose name begins so';
