-- rowcast.uninstall() -> void
-- Removes everything: triggers, functions, outbox, schema, and the roles unless another database still uses them.
--
-- It is one transaction. So it begins by looking for a running relay, which must be ended first; then it takes all
-- locks it needs at once or none, so that nobody waits behind it for longer than it works; and it refuses more tables
-- than fit into the lock table (3,200 with the defaults). For many: call rowcast.unwatch_all() first, or `rowcast
-- uninstall`, which does both.
-- tables touched: all of schema rowcast (dropped)
create or replace function rowcast.uninstall() returns void
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = warning as $$
declare
  attempts int := 0;
  watched regclass;
  role name;
  is_needed boolean;
  -- four locks a table; the lock table takes twice of what it is said to (12,800 with the defaults were taken)
  most int := current_setting('max_locks_per_transaction')::int
              * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) / 2;
  tables int := (select count(*) from rowcast.channel c join pg_class t on t.oid = c.target);
begin
  perform rowcast.refuse_beside_relays();
  if tables > most then
    raise exception 'cannot uninstall: % tables are watched, and one transaction may lock %', tables, most
      using errcode = 'program_limit_exceeded',
        hint = 'call rowcast.unwatch_all(); select rowcast.uninstall();';
  end if;

  loop
    begin
      -- an attempt that fails gives back what it has
      for watched in
        select c.target from rowcast.channel c join pg_class t on t.oid = c.target
        union all
        -- what a table kept that gave its channel away goes with the schema
        select distinct t.tgrelid from pg_trigger t join pg_proc p on p.oid = t.tgfoid
         where p.pronamespace = 'rowcast'::regnamespace
           and t.tgparentid = 0
           and not exists (select from rowcast.channel c where c.target = t.tgrelid)
           and not exists (select from pg_class c
                            where c.oid = t.tgrelid and c.relnamespace = 'rowcast'::regnamespace)
        union all
        select c.oid from pg_class c where c.relnamespace = 'rowcast'::regnamespace and c.relkind = 'r'
      loop
        execute format('lock table %s in access exclusive mode nowait', watched);
      end loop;
      exit;
    exception when lock_not_available then
      attempts := attempts + 1;
      if attempts >= 50 then
        raise exception 'cannot uninstall: table % stayed in use for ten seconds, by %',
          watched,
          rowcast.holders(watched, true)
          using errcode = 'lock_not_available',
            hint = 'call rowcast.unwatch_all(); first, which takes one table after the other; if a transaction is '
                   'forgotten, end it with its pid from above: select pg_terminate_backend(PID);';
      end if;
    end;
    perform pg_sleep(0.1 + 0.2 * random());
  end loop;

  for watched in select target from rowcast.channel where target is not null loop
    perform rowcast.unwatch(watched);
  end loop;
  drop schema rowcast cascade;
  foreach role in array array['rowcast_capture', 'rowcast_relay'] loop
    if exists (select from pg_roles where rolname = role) then
      begin
        -- It takes the rights on other databases, too: CONNECT, say, which the installation there needs.
        select bool_or(d.dbid not in (0, here.oid))
               and bool_or(d.classid = 'pg_database'::regclass and d.objid <> here.oid)
          into is_needed
          from pg_shdepend d
          join pg_database here on here.datname = current_database()
         where d.refclassid = 'pg_authid'::regclass and d.refobjid = to_regrole(quote_ident(role));
        if is_needed is not true then
          execute format('drop owned by %I', role);
        end if;
      exception when insufficient_privilege then
        raise warning 'rights of role % are kept: %', role, sqlerrm;
      end;
      begin
        execute format('drop role %I', role);
      exception when dependent_objects_still_exist or insufficient_privilege then
        -- another database has rowcast as well
        raise warning 'role % is kept: %', role, sqlerrm;
      end;
    end if;
  end loop;
end $$;
comment on function rowcast.uninstall() is 'removes rowcast from this database, with everything it captured';
