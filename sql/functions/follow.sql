-- rowcast.follow(target, columns) -> void
-- Has these columns of a table captured for claims. A table that is watched must show them; any other gets a channel
-- that clients do not see, with no other columns than claims and its key need.
-- tables touched: rowcast.channel (insert, update), rowcast.outbox_0..2 (insert)
create or replace function rowcast.follow(target regclass, columns text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  entry rowcast.channel;
  missing text;
  needed text[];
begin
  select * into entry from rowcast.channel c
   where c.target = follow.target and c.target = c.target_oid and c.origin = rowcast.origin();
  if found and not entry.unlisted then
    select w.name into missing from unnest(columns) w(name)
     where not exists (select from rowcast.shown_column s where s.channel = entry.id and s.name = w.name);
    if found then
      raise exception 'cannot follow table %: column % does not leave it, so a change of it is not captured',
        target,
        missing
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'watch the table with this column; policies can hide it: '
                     'select rowcast.allow(.., columns => ..)';
    end if;
    return;
  end if;
  needed := array(
    select unnest(f.columns) from rowcast.followed f where f.target = follow.target
     union select unnest(follow.columns)
     union select a.attname::text
             from pg_index i
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
            where i.indrelid = follow.target and i.indisprimary);
  perform rowcast.watch(
    target,
    channel => coalesce(entry.name, rowcast.free_channel(target, '.')),
    columns => needed);
  update rowcast.channel c set unlisted = true where c.target = follow.target;
end $$;
comment on function rowcast.follow(regclass, text[]) is 'has columns of a table captured for claims';
