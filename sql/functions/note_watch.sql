-- rowcast.note_watch(target, channel, user_rule, notification, exclude, singular, columns, replicated, prefix) ->
-- text, the channel
-- The part of rowcast.watch that locks no table: checks everything, notes the channel, lets the relay read the table
-- and tells it. rowcast.install_triggers is the rest. Raises with a remedy. A call with a prefix states nothing but
-- the name: it is null where the table is watched, and takes no channel from a table that is gone.
-- tables touched: rowcast.channel (insert, update), rowcast.stated_table (insert, update), rowcast.hidden_column
-- (delete), rowcast.outbox_0..2 (insert)
create or replace function rowcast.note_watch(
  target regclass,
  channel text,
  user_rule text,
  notification jsonb,
  exclude text[],
  singular text, columns text[], replicated boolean, prefix text)
returns text language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  table_name text;
  taken_by text;
  missing text;
  hidden int2[] := '{}';
  allowed int2[];
  rule_column int2;
  rule_query text;
  entry rowcast.channel;
  gone rowcast.channel;
  former rowcast.channel;
  is_named bool := channel is not null;
begin
  perform rowcast.refuse_unwatchable(target);
  select relname into table_name from pg_class where oid = target;
  channel := coalesce(channel, coalesce(prefix, '') || replace(lower(table_name), '_', '-'));
  singular := coalesce(singular, rowcast.singular(lower(table_name)));

  -- as the constraint channel_name_fits_a_url says it, with a remedy
  if channel ~ '[[:space:][:cntrl:]/?#%]' or channel in ('', 'user') or length(channel) > 100 then
    raise exception 'cannot watch table %: % cannot be a channel''s name, which stands in a path and has at most 100 '
                    'characters',
      target,
      quote_literal(channel)
      using errcode = 'invalid_parameter_value',
            hint = 'give it another name: '
              || rowcast.watch_call(
                target::text,
                rowcast.free_channel(target, coalesce(prefix, '')),
                user_rule,
                notification,
                exclude,
                singular,
                columns,
                replicated);
  end if;
  -- a channel whose table was dropped is free. One that was made anew under its name has what that one had
  select c.* into gone
    from rowcast.channel c
    join pg_class t on t.oid = note_watch.target
    join pg_namespace n on n.oid = t.relnamespace
    where prefix is null
      and c.name = note_watch.channel
      and not exists (select from pg_class where oid = c.target)
      and (c.given_schema, c.given_name) = (n.nspname, t.relname);
  perform rowcast.unwatch(c.target) from rowcast.channel c
    where prefix is null
      and c.name = note_watch.channel
      and c.target is not null
      and not exists (select from pg_class where oid = c.target);
  -- and so is one whose table has given its name to this one, as online schema changes do. Only where the channel is
  -- named: else a call that states nothing would show what was excluded. No lock is taken: rowcast.watch drops the
  -- triggers of the other one
  select c.* into former
    from rowcast.channel c
    join pg_class t on t.oid = note_watch.target
    join pg_namespace n on n.oid = t.relnamespace
    where c.name = note_watch.channel
      and c.target <> note_watch.target
      and (c.given_schema, c.given_name) = (n.nspname, t.relname);
  if found and is_named then
    perform rowcast.revoke_snapshot(former.target);
    delete from rowcast.channel c where c.id = former.id;
    if rowcast.append(former.id, 'C', null, null, rowcast.actor(), null) then
      perform rowcast.ring(former.name, 'C', null);
    end if;
  elsif found then
    raise exception 'cannot watch table %: channel % was given for the table that had its name', target, channel
      using errcode = 'duplicate_object',
        hint = 'with the arguments of that one: '
          || (select w.remedy from rowcast.watched w where w.channel = former.name);
  end if;
  select coalesce(c.target::text, 'rowcast.publish') into taken_by
    from rowcast.channel c where c.name = note_watch.channel and c.target is distinct from note_watch.target;
  if found then
    raise exception 'cannot watch table %: channel % is taken by %', target, channel, taken_by
      using errcode = 'duplicate_object',
        hint = 'give it another name: '
          || rowcast.watch_call(
            target::text,
            rowcast.free_channel(target, coalesce(prefix, '')),
            user_rule,
            notification,
            exclude,
            singular,
            columns,
            replicated);
  end if;

  select name into missing from (
      select unnest(exclude) as name
       union all select unnest(columns)
       union all select value
        from jsonb_each_text(coalesce(notification, '{}'))
    ) named
     where not exists (select from pg_attribute a
                        where a.attrelid = target and a.attname = named.name and a.attnum > 0 and not a.attisdropped);
  if found then
    raise exception 'cannot watch table %: it has no column %', target, missing
      using errcode = 'undefined_column',
            hint = 'columns: '
              || (select string_agg(attname, ', ' order by attnum)
                    from pg_attribute
                   where attrelid = target and attnum > 0 and not attisdropped);
  end if;
  exclude := coalesce(exclude, '{}');
  select coalesce(array_agg(a.attnum order by a.attnum) filter (where a.attname = any (exclude)), '{}'),
         case when columns is not null then
           coalesce(array_agg(a.attnum order by a.attnum)
                      filter (where a.attname = any (columns) and a.attname <> all (exclude)), '{}')
         end
    into hidden, allowed
    from pg_attribute a
   where a.attrelid = target and a.attnum > 0;
  -- a list that has all names of the last one frees no column: one that got another name since stays excluded
  hidden := array(
    select unnest(hidden) union
    select a.attnum from rowcast.channel c
      join pg_attribute a on a.attrelid = c.target and a.attnum = any (c.exclude) and not a.attisdropped
     where c.target = note_watch.target
       and c.target = c.target_oid
       and c.origin = rowcast.origin()
       and c.given_exclude <@ note_watch.exclude
       and c.given_exclude <> '{}'
    union
    select h.attnum from rowcast.channel c join rowcast.hidden_column h on h.channel = c.id
     where c.target = note_watch.target and c.given_exclude <@ note_watch.exclude
     order by 1);
  select a.attname into missing
    from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
   where i.indrelid = target and i.indisprimary and (a.attnum = any (hidden) or a.attnum <> all (allowed)) limit 1;
  if found then
    raise exception 'cannot watch table %: column % is in its primary key and cannot be excluded', target, missing
      using errcode = 'invalid_parameter_value', hint = 'subscribers need the key to know which row changed';
  end if;
  select k.value into missing
    from jsonb_each_text(coalesce(notification, '{}')) k
    join pg_attribute a on a.attrelid = target and a.attname = k.value
   where a.attnum = any (hidden) or a.attnum <> all (allowed) limit 1;
  if found then
    raise exception 'cannot watch table %: its notification names column %, which is excluded', target, missing
      using errcode = 'invalid_parameter_value',
        hint = 'an excluded column never leaves the table: take it out of the notification, or out of the exclusion';
  end if;

  if user_rule is not null then
    select a.attnum into rule_column from pg_attribute a
     where a.attrelid = target and a.attname = user_rule and a.attnum > 0 and not a.attisdropped;
    if rule_column = any (hidden) or rule_column <> all (allowed) then
      raise exception 'cannot watch table %: its user rule names column %, which is excluded', target, user_rule
        using errcode = 'invalid_parameter_value', hint = 'name the users by a query instead';
    elsif rule_column is null and user_rule !~* '^[[:space:]]*(select|with)[[:space:]]' then
      raise exception 'cannot watch table %: user rule % is neither a column of it nor a query', target, user_rule
        using errcode = 'undefined_column',
              hint = 'columns: '
                || (select string_agg(attname, ', ' order by attnum)
                      from pg_attribute
                     where attrelid = target and attnum > 0 and not attisdropped);
    elsif rule_column is null then
      rule_query := regexp_replace(user_rule, '[;[:space:]]+$', '');
    end if;
  end if;

  if (rule_column is not null or rule_query is not null)
     and (former.briefly
       or exists (select from rowcast.channel c where c.target = note_watch.target and c.briefly)) then
    raise exception 'cannot watch table % with a user rule: its changes are kept briefly, and those of users are not',
      target
      using errcode = 'object_not_in_prerequisite_state',
        hint = format(
          'keep them like all others first: select rowcast.keep_briefly(%L, false);',
          coalesce(former.target, target)::text);
  end if;

  insert into rowcast.channel as c (
    name,
    target,
    singular,
    user_column,
    user_query,
    notification,
    exclude,
    target_oid,
    origin,
    given_rule,
    given_exclude,
    given_columns,
    allowed,
    replicated,
    given_schema,
    given_name,
    briefly,
    unlisted)
    values (
      note_watch.channel,
      note_watch.target,
      note_watch.singular,
      rule_column,
      rule_query,
      note_watch.notification,
      hidden,
      note_watch.target,
      rowcast.origin(),
      user_rule,
      note_watch.exclude,
      note_watch.columns,
      allowed,
      coalesce(note_watch.replicated, false),
      (select n.nspname from pg_class t join pg_namespace n on n.oid = t.relnamespace where t.oid = note_watch.target),
      table_name,
      coalesce(former.briefly, gone.briefly and rule_column is null and rule_query is null, false),
      coalesce(former.unlisted, gone.unlisted, false))
    on conflict on constraint channel_target_watched_once do update
      set name = excluded.name, singular = excluded.singular, user_column = excluded.user_column,
          user_query = excluded.user_query, notification = excluded.notification, exclude = excluded.exclude,
          target_oid = excluded.target_oid,
          origin = excluded.origin,
          given_rule = excluded.given_rule,
          given_exclude = excluded.given_exclude,
          given_columns = excluded.given_columns, allowed = excluded.allowed, replicated = excluded.replicated,
          given_schema = excluded.given_schema, given_name = excluded.given_name,
          -- what a claim follows stays so under its name
          unlisted = c.unlisted and c.name = excluded.name
        -- a call that states nothing never replaces one that does
        where note_watch.prefix is null or c.unlisted
    returning * into entry;
  if entry.id is null then
    return null;
  end if;
  delete from rowcast.hidden_column h where h.channel = entry.id;
  insert into rowcast.stated_table as s (schema, name, number) values (entry.given_schema, entry.given_name, target)
    on conflict on constraint stated_table_has_one_name do update set number = excluded.number, is_out = false;
  update rowcast.stated_table s set is_out = false where s.number = note_watch.target and s.is_out;

  -- else DDL that comes before a relay's first look would be told to nobody
  update rowcast.channel c
    set form = (select f.form from rowcast.form f where f.channel = entry.id)
   where c.id = entry.id and c.form is null;

  perform rowcast.grant_snapshot(target);
  if rowcast.bell_mode() in ('row', 'always')
     and exists (select from pg_roles r
                  where r.rolcanlogin and not r.rolsuper and not pg_has_role(r.oid, 'rowcast_relay', 'usage')
                  and has_database_privilege(r.oid, current_database(), 'connect')
                  and not has_table_privilege(r.oid, target, 'select')) then
    raise warning 'roles that may not read table % can LISTEN and hear its rows: bells carry them', target
      using hint = 'select rowcast.configure(''notify'', ''empty'');';
  end if;
  if rowcast.append(entry.id, 'C', null, null, rowcast.actor(), null) then
    perform rowcast.ring(entry.name, 'C', null);
  end if;
  return entry.name;
end $$;
drop function if exists rowcast.note_watch(regclass, text, text, jsonb, text[], text, text[]);
comment on function rowcast.note_watch(regclass, text, text, jsonb, text[], text, text[], boolean, text) is
  'notes that a table is watched, and how';
