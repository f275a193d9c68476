-- rowcast.supersede(old, new) -> void
-- Drops a function of an earlier version whose calls would fit the new one too. A role that was granted the old one may
-- call the new, and no other role, whatever new functions are granted by default. rowcast.before: see sql/grants.sql.
create or replace function rowcast.supersede(old text, new text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  former oid := to_regprocedure(old);
  kind text := (select case prokind when 'p' then 'procedure' else 'function' end from pg_proc where oid = former);
  holders name[];
  holder name;
begin
  if former is null then
    return;
  end if;
  holders := array(select r.rolname
                     from pg_proc p
                    cross join lateral aclexplode(p.proacl) a
                     join pg_roles r on r.oid = a.grantee
                    where p.oid = former and a.privilege_type = 'EXECUTE' and a.grantee <> p.proowner);
  execute format('revoke all on %s %s from public', kind, new);
  for holder in select distinct r.rolname
                  from pg_proc p
                 cross join lateral aclexplode(p.proacl) a
                  join pg_roles r on r.oid = a.grantee
                 where p.oid = to_regprocedure(new) and a.grantee <> p.proowner loop
    execute format('revoke all on %s %s from %I', kind, new, holder);
  end loop;
  foreach holder in array holders loop
    execute format('grant execute on %s %s to %I', kind, new, holder);
  end loop;
  execute format('drop %s %s', kind, former::regprocedure);
  perform set_config(
    'rowcast.before',
    (coalesce(nullif(current_setting('rowcast.before', true), ''), '{}')::oid[] || to_regprocedure(new)::oid)::text,
    true);
end $$;
comment on function rowcast.supersede(text, text) is 'drops a function of an earlier version';
