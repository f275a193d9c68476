-- rowcast.remove_triggers(target) -> void
-- Drops our triggers from a table and the function of its user rule. The caller holds the table's lock.
-- "!rowcast_u" is of an earlier version: left there, it would capture every update a second time.
create or replace function rowcast.remove_triggers(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = warning as $$
declare
  t name;
  rule text := format('rowcast.users_of_%s()', target::oid);
  owner name := (select pg_get_userbyid(proowner) from pg_proc where oid = to_regprocedure(rule));
begin
  for t in select tgname
             from pg_trigger
            where tgrelid = target and tgparentid = 0 and tgname ~ '^!!?rowcast(_users|_u|_t)?(_[0-9]+)?$' loop
    execute format('drop trigger %I on %s', t, target);
  end loop;
  if owner is not null then
    execute format('drop function %s', rule);
    perform rowcast.forget_role(owner);
  end if;
end $$;
comment on function rowcast.remove_triggers(regclass) is 'drops rowcast''s triggers from a table';
