-- rowcast.watch(target, channel, user_rule, notification, exclude, singular, columns, replicated) -> text, the channel
-- Captures every change of a table from now on. Idempotent: called again it brings triggers and rule to what it says.
--   channel       default: the table's name with _ as -
--   user_rule     a column that holds the user to notify, or a query over row that gives the users
--   notification  {key in the notification's data: column}; default: the whole row
--   exclude       columns that never leave the table: the column, also after a rename, and whichever column has its
--                 name. A call that names all that the last one named frees none of them
--   singular      'pet' in the notification_type 'pet_created'; default: guessed from the table's name
--   columns       the only columns that may leave: one that is added later stays in; default: all that are not excluded
--   replicated    true: also what a subscription of logical replication writes, and sessions with
--                 session_replication_role = replica. Where both servers have rowcast, each tells it
-- Everything is checked first: it raises with a remedy and leaves nothing half done. The table's lock comes last.
-- tables touched: rowcast.channel (insert, update), rowcast.outbox_0..2 (insert)
create or replace function rowcast.watch(target regclass, channel text default null, user_rule text default null,
  notification jsonb default null, exclude text[] default '{}', singular text default null, columns text[] default null,
  replicated boolean default false)
returns text language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  former regclass := (select c.target from rowcast.channel c where c.name = watch.channel and c.target <> watch.target
    and exists (select from pg_class t where t.oid = c.target));
  name text := rowcast.note_watch(
    target,
    channel,
    user_rule,
    notification,
    exclude,
    singular,
    columns,
    replicated,
    null);
begin
  perform rowcast.install_triggers(target);
  -- of the table that had the name before: what its triggers write is nobody's by now
  if former is not null then
    begin
      execute format('lock table %s in access exclusive mode nowait', former);
      perform rowcast.remove_triggers(former);
    exception when lock_not_available or insufficient_privilege or undefined_table then
      raise warning 'the triggers of rowcast stay on table %, for nothing', former
        using hint = format('when nobody uses it: select rowcast.unwatch(%L);', former::text);
    end;
  end if;
  return name;
end $$;
comment on function rowcast.watch(regclass, text, text, jsonb, text[], text, text[], boolean) is
  'captures every change of a table from now on: select rowcast.watch(''public.pets'')';
select rowcast.supersede(
  'rowcast.watch(regclass, text, text, jsonb, text[], text)',
  'rowcast.watch(regclass, text, text, jsonb, text[], text, text[], boolean)'),
       rowcast.supersede(
         'rowcast.watch(regclass, text, text, jsonb, text[], text, text[])',
         'rowcast.watch(regclass, text, text, jsonb, text[], text, text[], boolean)');
