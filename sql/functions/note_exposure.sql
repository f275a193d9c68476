-- rowcast.note_exposure() -> trigger, BEFORE INSERT OR UPDATE of rowcast.channel
-- What may be seen of a channel changes with its row, whichever session writes it. So here, and nowhere else:
--   * the floor rises with every change but that of a label and a shorter list of excluded columns, and with a channel
--     that is new: another table may have had its name;
--   * the names of excluded columns are kept, also when such a column is renamed or dropped: older rows have them, and
--     a column that takes one is hidden like the one before. Such a name is given free by a watch that does not
--     exclude the column that has it then, which is the DBA's word;
--   * policies that were stated for another table, or before there was one, mean its columns from now on.
-- tables touched: rowcast.policy (update)
create or replace function rowcast.note_exposure() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  labels constant text[] := '{floor,floored_by,since,singular,given_rule,exclude,given_exclude,hidden_names,'
                            'given_schema,given_name,form,briefly}';
  is_stated bool := true;
  was text[] := '{}';
  hidden text[];
  excluded text[];
begin
  excluded := array(select unnest(new.given_exclude) union
    select a.attname::text
      from pg_attribute a
     where a.attrelid = new.target and a.attnum = any (new.exclude) and a.attnum > 0 and not a.attisdropped);
  if tg_op = 'UPDATE' then
    -- by a watch, also one that repeats what was said
    is_stated := new.floor::text is not distinct from old.floor::text
      -- not where rowcast.keep_excluded notes what is hidden by its name
      and not (new.exclude @> old.exclude
        and new.exclude <> old.exclude
        and to_jsonb(new) - '{exclude,form}'::text[] = to_jsonb(old) - '{exclude,form}'::text[])
      and ((new.target, new.exclude, new.given_exclude) is distinct from (old.target, old.exclude, old.given_exclude)
        or to_jsonb(new) = to_jsonb(old));
    was := old.hidden_names || old.given_exclude || array(
      select a.attname::text
        from pg_attribute a
       where a.attrelid = old.target and a.attnum = any (old.exclude) and a.attnum > 0 and not a.attisdropped);
  end if;
  hidden := was;
  if is_stated then
    was := array(select name from unnest(was || new.hidden_names) name
      where not exists (select from pg_attribute a
                         where a.attrelid = new.target and a.attname = name and a.attnum > 0 and not a.attisdropped));
  else
    was := was || new.hidden_names;
  end if;
  new.hidden_names := array(select unnest(was) union select unnest(excluded) order by 1);
  if tg_op = 'INSERT' or (new.floor::text is not distinct from old.floor::text and (
       to_jsonb(new) - labels is distinct from to_jsonb(old) - labels
       -- not where what was hidden by its name is hidden by its number as well
       or not (new.hidden_names <@ hidden and array(select unnest(new.exclude) except select unnest(old.exclude)) <@
            array(select a.attnum
                    from pg_attribute a
                   where a.attrelid = new.target
                     and a.attnum > 0
                     and not a.attisdropped
                     and a.attname = any (hidden))))) then
    new.floor := rowcast.floor_now();
    new.floored_by := pg_current_xact_id();
  end if;
  if new.target is not null
    and (tg_op = 'INSERT'
      or (new.name, new.target_oid, new.origin) is distinct from (old.name, old.target_oid, old.origin)) then
    perform rowcast.bind_policies(new.name, null, new.target, new.origin);
  end if;
  return new;
end $$;
comment on function rowcast.note_exposure() is
  'trigger of rowcast.channel: from when on something may be seen, and under which names columns were excluded';
create or replace trigger note_exposure before insert or update on rowcast.channel
  for each row execute function rowcast.note_exposure();
-- also in a session with session_replication_role = replica: an exclusion that it states is one
alter table rowcast.channel enable always trigger note_exposure;
