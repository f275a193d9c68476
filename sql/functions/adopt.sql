-- rowcast.adopt() -> table(channel, done), the channels that were off because this is another cluster, and what became
-- of each
-- pg_upgrade keeps the numbers of tables and columns, a restored dump does not. A channel is taken over where its
-- table has the number that it had, and each column that was told has the number and the name that rowcast.form last
-- said. The others stay off, and done says why. A change of what was not captured meanwhile cannot be known: the floor
-- rises.
-- tables touched: rowcast.channel (update), rowcast.watched_schema (update), rowcast.policy (update),
-- rowcast.outbox_0..2 (insert)
create or replace function rowcast.adopt() returns table (channel text, done text)
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  off rowcast.channel;
begin
  -- schemas get other numbers
  update rowcast.watched_schema s set number = n.oid from pg_namespace n where n.nspname = s.name and n.oid <> s.number;
  for off in
    select *
      from rowcast.channel c
     where c.target is not null and (c.target <> c.target_oid or c.origin <> rowcast.origin())
     order by c.name
  loop
    channel := off.name;
    done := case
      when not exists (select from pg_class t where t.oid = off.target) then 'its table is gone'
      when off.target <> off.target_oid
        then 'its table has another number: call rowcast.watch again, with all its arguments'
      when off.form is null then 'nothing tells what its columns were: call rowcast.watch again, with all its arguments'
      when exists (
        select from unnest(off.form) item where item ~ '^c:' and not exists (
          select from pg_attribute a
           where a.attrelid = off.target and a.attnum = split_part(item, ':', 2)::int2 and not a.attisdropped
             and starts_with(item, format('c:%s:%s:', a.attnum, a.attname))))
        then 'its columns have other numbers or names: call rowcast.watch again, with all its arguments'
      else 'adopted' end;
    if done = 'adopted' then
      -- its columns have their numbers, so policies mean those that they meant, also where another one has a name since
      update rowcast.policy p set origin = rowcast.origin()
       where p.channel = off.name and p.target_oid = off.target_oid and p.origin = off.origin;
      update rowcast.channel c set origin = rowcast.origin() where c.id = off.id;
      if rowcast.append(off.id, 'C', null, null, rowcast.actor(), null) then
        perform rowcast.ring(off.name, 'C', null);
      end if;
    end if;
    return next;
  end loop;
end $$;
comment on function rowcast.adopt() is
  'takes channels over after pg_upgrade, where tables and columns have the numbers that they had';
