-- rowcast.uninstall() -> void
-- Removes everything: triggers, functions, outbox, schema, and the roles unless another database still uses them.
-- tables touched: all of schema rowcast (dropped)
create or replace function rowcast.uninstall() returns void
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = warning as $$
declare
  watched regclass;
  role name;
begin
  for watched in select target from rowcast.channel where target is not null loop
    perform rowcast.unwatch(watched);
  end loop;
  drop schema rowcast cascade;
  foreach role in array array['rowcast_capture', 'rowcast_relay'] loop
    begin
      execute format('drop owned by %I', role);
      execute format('drop role %I', role);
    exception when dependent_objects_still_exist or insufficient_privilege or undefined_object then
      raise warning 'role % is kept: %', role, sqlerrm;
    end;
  end loop;
end $$;
comment on function rowcast.uninstall() is 'removes rowcast from this database, with everything it captured';
