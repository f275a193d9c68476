-- rowcast.install_triggers(target) -> void
-- Gives a table that rowcast.note_watch has noted its triggers, in the place of those that it had. Takes the table's
-- lock; two CREATE TRIGGERs later the caller may commit.
-- tables touched: rowcast.channel (select)
create or replace function rowcast.install_triggers(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  entry rowcast.channel;
  depends_on_settings text;
  arguments text;
  suffix text;
begin
  select * into strict entry from rowcast.channel c where c.target = install_triggers.target;
  -- Text that follows output settings: intervals, bytea, floats, nested timestamptz. Built-in types that never do are
  -- listed; any other counts as dependent, which costs a test per row and is never wrong. A column of type timestamptz
  -- is listed although it follows TimeZone: its text says the offset, and the relay brings it to UTC.
  select coalesce(max('x'), '') into depends_on_settings from pg_attribute a
   where a.attrelid = target and a.attnum > 0 and not a.attisdropped
     and a.atttypid not in (
       'int2'::regtype,
       'int4'::regtype,
       'int8'::regtype,
       'numeric'::regtype,
       'text'::regtype,
       'varchar'::regtype,
       'bpchar'::regtype,
       'bool'::regtype,
       'uuid'::regtype,
       'date'::regtype,
       'timestamp'::regtype,
       'timestamptz'::regtype,
       'time'::regtype,
       'json'::regtype, 'jsonb'::regtype, 'inet'::regtype, 'cidr'::regtype, 'macaddr'::regtype, 'xml'::regtype,
       '_int2'::regtype,
       '_int4'::regtype,
       '_int8'::regtype,
       '_text'::regtype,
       '_varchar'::regtype,
       '_uuid'::regtype,
       '_numeric'::regtype)
     and not exists (select from pg_type t where t.oid = a.atttypid and t.typtype = 'e');
  -- And text that follows the search_path: a name has no schema where the writer's path finds it. Such a row is always
  -- written under settings of its own.
  if exists (
    select from pg_attribute a
     cross join lateral rowcast.types_within(a.atttypid) t(oid)
     where a.attrelid = target and a.attnum > 0 and not a.attisdropped and t.oid in (
       'regclass'::regtype,
       'regproc'::regtype,
       'regprocedure'::regtype,
       'regoper'::regtype,
       'regoperator'::regtype,
       'regtype'::regtype,
       'regconfig'::regtype,
       'regdictionary'::regtype,
       'regcollation'::regtype)) then
    depends_on_settings := 's';
  end if;
  -- And text that may raise, where nothing may fail the write: rowcast.capture_large takes such a row, under settings
  -- of its own as well.
  if rowcast.casts_to_json(target) then
    depends_on_settings := 'c';
  end if;

  perform rowcast.lock_for_triggers(target);
  perform rowcast.remove_triggers(target);
  -- A partition gets its root's triggers under the same names. With names of the root's own, a table that is watched
  -- itself can be attached: else the application's ATTACH would fail.
  select case when c.relkind = 'p' then '_' || target::oid else '' end into suffix from pg_class c where c.oid = target;
  if entry.user_query is not null then
    perform rowcast.install_user_query(target, entry.user_query, suffix);
  end if;
  arguments := format('%L, %L', entry.id, entry.name);
  if depends_on_settings <> ''
    or entry.exclude <> '{}'
    or entry.allowed is not null
    or entry.user_query is not null then
    arguments := format(
      '%s, %L, %L, %L, %L, %L, %L, %L',
      arguments,
      depends_on_settings,
      entry.exclude::text,
      target::oid,
      case when entry.user_query is null then '' else 'rowcast.users' || suffix end,
      entry.given_exclude::text,
      coalesce(entry.allowed::text, ''),
      (select c.relnatts from pg_class c where c.oid = target));
  end if;
  execute format(
    'create trigger %I after insert or update or delete on %s for each row execute function %s(%s)',
    '!rowcast' || suffix,
    target,
    case when entry.briefly then 'rowcast.capture_brief' else 'rowcast.capture' end,
    arguments);
  execute format('create trigger %I after truncate on %s for each statement execute '
                 'function %s(%L, %L)',
    '!rowcast_t' || suffix, target,
    case when entry.briefly then 'rowcast.capture_truncate_brief' else 'rowcast.capture_truncate' end,
    entry.id,
    entry.name);
  if entry.replicated then
    execute (select string_agg(format('alter table %s enable always trigger %I', target, t.tgname), '; ')
               from pg_trigger t
              where t.tgrelid = target
                and t.tgname in ('!rowcast' || suffix, '!rowcast_t' || suffix, '!!rowcast_users' || suffix));
  end if;
end $$;
comment on function rowcast.install_triggers(regclass) is 'gives a watched table its triggers';
