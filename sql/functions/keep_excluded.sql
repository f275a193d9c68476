-- rowcast.keep_excluded() -> void
-- A column that has taken the name of an excluded one is hidden by that name. From now on it is by its number as well,
-- so that a third column may take the name, and this one another. A relay calls it where it sees such a column, or
-- where the writer of a row has seen one (rowcast.hidden_column). The triggers go by what writers have seen. No lock
-- is waited for: a channel that somebody states is left for the next time.
-- tables touched: rowcast.channel (update)
create or replace function rowcast.keep_excluded() returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  with taken as (
    select c.id, a.attnum from rowcast.channel c
      join pg_attribute a on a.attrelid = c.target and a.attnum > 0 and not a.attisdropped
     where c.target = c.target_oid and c.origin = rowcast.origin() and a.attnum <> all (c.exclude)
       and (a.attname::text = any (c.hidden_names || c.given_exclude)
            or exists (select from rowcast.hidden_column h where h.channel = c.id and h.attnum = a.attnum))
  ), free as (select id from rowcast.channel where id in (select id from taken) for update skip locked)
  update rowcast.channel c set exclude = c.exclude || array(select attnum from taken t where t.id = c.id)
    from free where free.id = c.id;
$$;
comment on function rowcast.keep_excluded() is 'excludes by number what has the name of an excluded column';
