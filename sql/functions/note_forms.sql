-- rowcast.note_forms() -> void
-- DDL can change what rows say, and no change of a row tells it. Then the channel's floor rises: its subscribers are
-- told `gap`, `policy`, and load again. It rises where
--   * a column was renamed, dropped or took another type, or so did a field of its composite type, or a value of its
--     enum got another name;
--   * a column was added with a default, which rows from before have;
--   * the rows were written anew by ALTER COLUMN TYPE .. USING;
--   * a partition was attached, detached or dropped: no change of a row tells of what it has.
-- A column that is null in every row from before is no reason, nor is one that was excluded, which raises the floor
-- itself. VACUUM FULL and CLUSTER are none, but for the first one after a column was added with a default: it cannot
-- be told from an ALTER COLUMN TYPE. A relay calls it each ten seconds, or as seldom as keeps it below a hundredth of
-- a core: 0.3 ms a table. No lock is waited for.
-- tables touched: rowcast.channel (update), rowcast.outbox_0..2 (insert)
create or replace function rowcast.note_forms() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  seen record;
  gone text[];
  come text[];
  -- the numbers of columns that have such an item
  were int2[];
  partitions text[];
begin
  for seen in
    -- channel by channel: a join would keep all forms at once, in a file where they are many
    select c.id, c.target, c.form as was, (select f.form from rowcast.form f where f.channel = c.id) as now
      from rowcast.channel c where c.target is not null
  loop
    continue when seen.now is null or seen.now is not distinct from seen.was;
    perform from rowcast.channel c where c.id = seen.id and c.form is not distinct from seen.was for update skip locked;
    continue when not found;
    gone := array(select unnest(seen.was) except select unnest(seen.now));
    come := array(select unnest(seen.now) except select unnest(seen.was));
    partitions := array(select split_part(item, ':', 2) || ':' || split_part(item, ':', 3)
                          from unnest(seen.was) item
                         where item ~ '^p:');
    were := array(select split_part(item, ':', 2)::int2 from unnest(seen.was) item where item ~ '^c:');
    if seen.was is not null and (
         -- a value of an enum that is still there has another name
         exists (select from unnest(gone) g
                  where g ~ '^e:'
                    and exists (select from unnest(come) i where starts_with(i, 'e:' || split_part(g, ':', 2) || ':')))
         -- a field of a composite type that a column still has is another one, or gone
         or exists (select from unnest(gone) g
                     where g ~ '^a:'
                       and exists (select from unnest(seen.now) i
                                    where starts_with(i, 'a:' || split_part(g, ':', 2) || ':')))
         -- a column has another name or type, or is gone; one that may leave no more is not
         or exists (select from unnest(gone) g where g ~ '^c:' and not exists (
              select from pg_attribute a
               where a.attrelid = seen.target and a.attnum = split_part(g, ':', 2)::int2 and not a.attisdropped
                 and not exists (select from rowcast.shown_column s where s.channel = seen.id and s.attnum = a.attnum)))
         -- a partition has left with its rows, or come with some
         or exists (select from unnest(partitions) p
                     where not exists (select from unnest(seen.now) i where i in ('p:' || p, 'p:' || p || ':joined')))
         or (partitions <> '{}'
           and exists (select from unnest(come) i
                        where i ~ '^p:.*:joined$'
                          and split_part(i, ':', 2) || ':' || split_part(i, ':', 3) <> all (partitions)))
         -- rows from before have a value in a column that is new
         or exists (select from unnest(come) i where i ~ '^f:' and split_part(i, ':', 2)::int2 <> all (were))
         or (exists (select from unnest(gone) g where g ~ '^n:') and (
              -- the rows were written anew, and with them a column that is new or was stated anew
              exists (select from unnest(come) i where i ~ '^c:' and split_part(i, ':', 2)::int2 <> all (were))
              or exists (select from unnest(gone) g where g ~ '^s:' and exists (
                   select from unnest(come) i where starts_with(i, 's:' || split_part(g, ':', 2) || ':')))))) then
      perform rowcast.raise_floor(seen.id);
    end if;
    update rowcast.channel c set form = seen.now where c.id = seen.id;
  end loop;
end $$;
comment on function rowcast.note_forms() is
  'tells subscribers where the rows of a table say something else than before';
