-- rowcast.forget_role(role) -> void
-- Takes USAGE of schema rowcast back from a role to which it is of no use: an earlier version gave it to the owners of
-- tables with a user rule, and it would keep the role from being dropped.
create or replace function rowcast.forget_role(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  whose oid := (select oid from pg_roles where rolname = role);
begin
  if role in ('rowcast_capture', 'rowcast_relay')
     or not exists (select from pg_namespace n, aclexplode(n.nspacl) a
                     where n.nspname = 'rowcast' and a.grantee = whose and n.nspowner <> whose)
     -- a role that may call or read something there was given the right by the DBA
     or exists (select from pg_proc p, aclexplode(p.proacl) a
                 where p.pronamespace = 'rowcast'::regnamespace and a.grantee = whose and p.proowner <> whose)
     or exists (select from pg_class c, aclexplode(c.relacl) a
                 where c.relnamespace = 'rowcast'::regnamespace and a.grantee = whose and c.relowner <> whose)
     or exists (select from pg_class c
                  join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
                 where c.relnamespace = 'rowcast'::regnamespace and a.grantee = whose)
     or exists (select from pg_proc p where p.pronamespace = 'rowcast'::regnamespace and p.proowner = whose) then
    return;
  end if;
  execute format('revoke usage on schema rowcast from %I', role);
end $$;
comment on function rowcast.forget_role(name) is 'takes back a right of use that is of no use any more';
