-- rowcast.watch(target, channel, user_rule, notification, exclude, singular) -> text, the channel
-- Captures every change of a table from now on. Idempotent: called again it brings triggers and rule to what it says.
--   channel       default: the table's name with _ as -
--   user_rule     a column that holds the user to notify, or a query over row that gives the users
--   notification  {key in the notification's data: column}; default: the whole row
--   exclude       columns that never leave the table, also after a rename
--   singular      'pet' in the notification_type 'pet_created'; default: guessed from the table's name
-- Everything is checked first: it raises with a remedy and leaves nothing half done.
-- tables touched: rowcast.channel (insert, update), rowcast.outbox_0..2 (insert)
create or replace function rowcast.watch(target regclass, channel text default null, user_rule text default null,
  notification jsonb default null, exclude text[] default '{}', singular text default null)
returns text language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  table_name text;
  taken_by text;
  missing text;
  hidden int2[] := '{}';
  rule_column int2;
  rule_query text;
  depends_on_settings text;
  arguments text;
  suffix text;
  entry rowcast.channel;
begin
  perform rowcast.refuse_unwatchable(target);
  select relname into table_name from pg_class where oid = target;
  channel := coalesce(channel, replace(lower(table_name), '_', '-'));
  singular := coalesce(singular, rowcast.singular(lower(table_name)));

  -- a channel whose table was dropped is free
  perform rowcast.unwatch(c.target) from rowcast.channel c
    where c.name = watch.channel and c.target is not null and not exists (select from pg_class where oid = c.target);
  select coalesce(c.target::text, 'rowcast.publish') into taken_by
    from rowcast.channel c where c.name = watch.channel and c.target is distinct from watch.target;
  if found then
    raise exception 'cannot watch table %: channel % is taken by %', target, channel, taken_by
      using errcode = 'duplicate_object', hint = format('give it another name: select rowcast.watch(%L, channel => ''..'');', target);
  end if;

  select name into missing from (
      select unnest(exclude) as name union all select value from jsonb_each_text(coalesce(notification, '{}'))
    ) named where not exists (select from pg_attribute a where a.attrelid = target and a.attname = named.name and a.attnum > 0 and not a.attisdropped);
  if found then
    raise exception 'cannot watch table %: it has no column %', target, missing
      using errcode = 'undefined_column',
            hint = 'columns: ' || (select string_agg(attname, ', ' order by attnum) from pg_attribute where attrelid = target and attnum > 0 and not attisdropped);
  end if;
  select coalesce(array_agg(a.attnum order by a.attnum), '{}') into hidden
    from pg_attribute a where a.attrelid = target and a.attname = any (exclude) and a.attnum > 0;
  select a.attname into missing from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
   where i.indrelid = target and i.indisprimary and a.attnum = any (hidden) limit 1;
  if found then
    raise exception 'cannot watch table %: column % is in its primary key and cannot be excluded', target, missing
      using errcode = 'invalid_parameter_value', hint = 'subscribers need the key to know which row changed';
  end if;

  if user_rule is not null then
    select a.attnum into rule_column from pg_attribute a
     where a.attrelid = target and a.attname = user_rule and a.attnum > 0 and not a.attisdropped;
    if rule_column = any (hidden) then
      raise exception 'cannot watch table %: its user rule names column %, which is excluded', target, user_rule
        using errcode = 'invalid_parameter_value', hint = 'name the users by a query instead';
    elsif rule_column is null and user_rule !~* '^\s*(select|with)\s' then
      raise exception 'cannot watch table %: user rule % is neither a column of it nor a query', target, user_rule
        using errcode = 'undefined_column',
              hint = 'columns: ' || (select string_agg(attname, ', ' order by attnum) from pg_attribute where attrelid = target and attnum > 0 and not attisdropped);
    elsif rule_column is null then
      rule_query := regexp_replace(user_rule, '[;\s]+$', '');
    end if;
  end if;

  -- Text that follows output settings: intervals, bytea, floats, nested timestamptz. Built-in types that never do are
  -- listed; any other counts as dependent, which costs a test per row and is never wrong. A column of type timestamptz
  -- is listed although it follows TimeZone: its text says the offset, and the relay brings it to UTC.
  select coalesce(max('x'), '') into depends_on_settings from pg_attribute a
   where a.attrelid = target and a.attnum > 0 and not a.attisdropped
     and a.atttypid not in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'text'::regtype, 'varchar'::regtype,
       'bpchar'::regtype, 'bool'::regtype, 'uuid'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'time'::regtype,
       'json'::regtype, 'jsonb'::regtype, 'inet'::regtype, 'cidr'::regtype, 'macaddr'::regtype, 'xml'::regtype,
       '_int2'::regtype, '_int4'::regtype, '_int8'::regtype, '_text'::regtype, '_varchar'::regtype, '_uuid'::regtype, '_numeric'::regtype)
     and not exists (select from pg_type t where t.oid = a.atttypid and t.typtype = 'e');

  perform rowcast.lock_for_triggers(target);
  insert into rowcast.channel as c (name, target, singular, user_column, user_query, notification, exclude, target_oid, origin, given_rule, given_exclude)
    values (watch.channel, watch.target, watch.singular, rule_column, rule_query, watch.notification, hidden, watch.target, rowcast.origin(), user_rule, watch.exclude)
    on conflict on constraint channel_target_watched_once do update
      set name = excluded.name, singular = excluded.singular, user_column = excluded.user_column,
          user_query = excluded.user_query, notification = excluded.notification, exclude = excluded.exclude,
          target_oid = excluded.target_oid, origin = excluded.origin, given_rule = excluded.given_rule, given_exclude = excluded.given_exclude
    returning * into entry;

  perform rowcast.remove_triggers(target);
  -- A partition gets its root's triggers under the same names. With names of the root's own, a table that is watched
  -- itself can be attached: else the application's ATTACH would fail.
  select case when c.relkind = 'p' then '_' || target::oid else '' end into suffix from pg_class c where c.oid = target;
  if rule_query is not null then
    perform rowcast.install_user_query(target, rule_query, suffix);
  end if;
  arguments := format('%L, %L', entry.id, entry.name);
  if depends_on_settings <> '' or hidden <> '{}' or rule_query is not null then
    arguments := format('%s, %L, %L, %L, %L', arguments, depends_on_settings, hidden::text, target::oid, case when rule_query is null then '' else 'rowcast.users' || suffix end);
  end if;
  execute format('create trigger %I after insert or update or delete on %s for each row execute function rowcast.capture(%s)', '!rowcast' || suffix, target, arguments);
  execute format('create trigger %I after truncate on %s for each statement execute function rowcast.capture_truncate(%L, %L)',
    '!rowcast_t' || suffix, target, entry.id, entry.name);

  perform rowcast.grant_snapshot(target, hidden);
  if rowcast.append(entry.id, 'C', null, null, rowcast.actor(), null) then
    perform rowcast.ring(entry.name, 'C', null);
  end if;
  return entry.name;
end $$;
comment on function rowcast.watch(regclass, text, text, jsonb, text[], text) is
  'captures every change of a table from now on: select rowcast.watch(''public.pets'')';
