-- rowcast.refuse_beside_relays() -> void
-- Raises where a relay is connected, and says which.
create or replace function rowcast.refuse_beside_relays() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  relays text;
begin
  -- a name that anybody may give a session counts only with rights of a relay
  select string_agg(
    format('pid %s (%s, %s)', a.pid, a.usename, a.application_name),
    ', ' order by a.application_name) into relays
    from pg_stat_activity a
   where a.datname = current_database()
     and a.application_name ~ '^rowcast (listen|read|query|replay|publish) [0-9a-f]{8}$'
     and a.pid <> pg_backend_pid() and has_schema_privilege(a.usesysid, 'rowcast', 'usage');
  if relays is not null then
    raise exception 'cannot uninstall: a relay is connected: %', relays
      using errcode = 'object_in_use', hint = 'end rowcast serve first, on every machine';
  end if;
end $$;
comment on function rowcast.refuse_beside_relays() is 'raises where a relay is connected';
