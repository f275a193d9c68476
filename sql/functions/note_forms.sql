-- rowcast.note_forms() -> void
-- Where rows say something else than before, and no change of a row says it, the channel's floor rises: its subscribers are
-- told `gap`, `policy`, and load again. So it is where
--   * a column was renamed, dropped or took another type, or a value of its enum got another name;
--   * a column was added with a default, which rows from before have;
--   * the rows were written anew by ALTER COLUMN TYPE .. USING.
-- A column that is null in every row from before is no reason, nor is one that was excluded, which raises the floor itself. A
-- relay calls it where rowcast.form differs from what it was. No lock is waited for.
-- tables touched: rowcast.channel (update), rowcast.outbox_0..2 (insert)
create or replace function rowcast.note_forms() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  seen record;
begin
  for seen in
    select c.id, c.target, c.form as was, f.form as now from rowcast.channel c join rowcast.form f on f.channel = c.id
     where c.form is distinct from f.form
       for update of c skip locked
  loop
    if seen.was is not null and (
         exists (select from unnest(seen.was) gone where gone ~ '^[ce]:' and gone <> all (seen.now)
                    -- an enum or a column that may leave no more
                    and (gone ~ '^e:' and exists (select from unnest(seen.now) n where n ~ ('^e:' || split_part(gone, ':', 2) || ':'))
                         or gone ~ '^c:' and not exists (
                              select from pg_attribute a where a.attrelid = seen.target and a.attnum = split_part(gone, ':', 2)::int2 and not a.attisdropped
                                 and not exists (select from rowcast.shown_column s where s.channel = seen.id and s.attnum = a.attnum))))
         or exists (select from unnest(seen.now) come where come ~ '^f:' and come <> all (seen.was)
                       and not exists (select from unnest(seen.was) w where w ~ ('^c:' || split_part(come, ':', 2) || ':')))
         or (exists (select from unnest(seen.was) gone where gone ~ '^n:' and gone <> all (seen.now))
             and exists (select from unnest(seen.was) gone where gone ~ '^s:' and gone <> all (seen.now)
                            and exists (select from unnest(seen.now) n where n ~ ('^s:' || split_part(gone, ':', 2) || ':'))
                            -- whatever writes rows anew gives them their values of before the column, and states it
                            and ('f:' || split_part(gone, ':', 2) <> all (seen.was) or 'f:' || split_part(gone, ':', 2) = any (seen.now))))) then
      perform rowcast.raise_floor(seen.id);
    end if;
    update rowcast.channel c set form = seen.now where c.id = seen.id;
  end loop;
end $$;
comment on function rowcast.note_forms() is 'tells subscribers where the rows of a table say something else than before';
