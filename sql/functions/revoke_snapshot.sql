-- rowcast.revoke_snapshot(target) -> void
-- Takes back from the relay what rowcast.grant_snapshot has given it for a table; the use of the schema with the last
-- one. A database that was restored where the role does not exist has nothing to take back.
create or replace function rowcast.revoke_snapshot(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = error as $$
declare
  schema oid := (select relnamespace from pg_class where oid = target);
begin
  if not exists (select from pg_roles where rolname = 'rowcast_relay') then
    return;
  end if;
  execute format('revoke select on %s from rowcast_relay', target);
  if not exists (select from rowcast.channel c
                   join pg_class t on t.oid = c.target
                  where t.relnamespace = schema and c.target <> revoke_snapshot.target)
     and exists (select from pg_namespace n, aclexplode(n.nspacl) a
                  where n.oid = schema and a.grantee = (select oid from pg_roles where rolname = 'rowcast_relay')) then
    execute format('revoke usage on schema %s from rowcast_relay', schema::regnamespace);
  end if;
exception when insufficient_privilege then
  null;  -- it was another role that gave it, and that may take it back
end $$;
comment on function rowcast.revoke_snapshot(regclass) is 'takes the right to read a table back from the relay';
