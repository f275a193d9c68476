-- rowcast.watch_newcomer(target) -> text, the channel
-- Watches a table of rowcast.newcomer, with the rights of the role that installed rowcast: the DBA has said that it is
-- to be. Null where it is none, or is in use: a relay calls it again in ten seconds, and nobody waits for it meanwhile.
-- tables touched: rowcast.seen_table (insert), and those of rowcast.watch
create or replace function rowcast.watch_newcomer(target regclass) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  prefix text;
  channel text;
begin
  -- one relay at a time
  select s.prefix into prefix from rowcast.watched_schema s join pg_class c on c.relnamespace = s.number
   where c.oid = target for update of s skip locked;
  if prefix is null or not exists (select from rowcast.newcomer n where n."table" = target) then
    return null;
  end if;
  begin
    execute format('lock table %s in share row exclusive mode nowait', target);
  exception when lock_not_available then
    return null;
  end;
  channel := rowcast.watch_with_prefix(target, prefix);
  insert into rowcast.seen_table values (target) on conflict do nothing;
  return channel;
end $$;
comment on function rowcast.watch_newcomer(regclass) is
  'watches a new table of a schema whose future tables are watched';
