-- rowcast.unwatch(target) -> boolean
-- Stops capturing a table; false where it was not watched. Its channel is gone with it, and the relay's right to read
-- it. Several tables: one in a transaction (call rowcast.unwatch_all()), since the lock of each is kept until its end.
-- tables touched: rowcast.channel (delete), rowcast.stated_table (insert, update), rowcast.outbox_0..2 (insert)
create or replace function rowcast.unwatch(target regclass) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  gone rowcast.channel;
  owner name := (select pg_get_userbyid(proowner)
                   from pg_proc
                  where oid = to_regprocedure(format('rowcast.users_of_%s()', target::oid)));
begin
  -- before the table: a session that has stated something of the channel and not committed keeps nobody from the table
  select * into gone from rowcast.channel c where c.target = unwatch.target for update;
  if not found then
    -- what a table kept that gave its channel away
    if exists (select from pg_trigger t
                where t.tgrelid = unwatch.target
                  and t.tgparentid = 0
                  and t.tgname ~ '^!!?rowcast(_users|_u|_t)?(_[0-9]+)?$')
       and exists (select from pg_class c where c.oid = unwatch.target and not c.relispartition) then
      perform rowcast.lock_for_triggers(unwatch.target);
      perform rowcast.remove_triggers(unwatch.target);
      return true;
    end if;
    return false;
  end if;
  if exists (select from pg_class where oid = target) then
    perform rowcast.lock_for_triggers(target);
    perform rowcast.remove_triggers(target);
    perform rowcast.revoke_snapshot(target);
  elsif owner is not null then
    execute format('drop function rowcast.users_of_%s()', target::oid);
    perform rowcast.forget_role(owner);
  end if;
  -- else the next call for the whole schema, or a relay, would watch it again
  insert into rowcast.stated_table as s (schema, name, number, is_out)
    select n.nspname, t.relname, t.oid, true
      from pg_class t
      join pg_namespace n on n.oid = t.relnamespace
      join rowcast.watched_schema w on w.number = n.oid
     where t.oid = unwatch.target
    on conflict on constraint stated_table_has_one_name do update set number = excluded.number, is_out = true;
  delete from rowcast.channel c where c.id = gone.id;
  if rowcast.append(gone.id, 'C', null, null, rowcast.actor(), null) then
    perform rowcast.ring(gone.name, 'C', null);
  end if;
  return true;
end $$;
comment on function rowcast.unwatch(regclass) is 'stops capturing a table';
