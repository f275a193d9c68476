-- rowcast.give_rule(function of a user rule, owner) -> void
-- Gives it to the table's owner, with whose rights the rule reads. Nothing is left to the role that had it before.
create or replace function rowcast.give_rule(rule regprocedure, owner name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  before name := (select pg_get_userbyid(proowner) from pg_proc where oid = rule);
  lends bool := not has_schema_privilege(owner, 'rowcast', 'create');
begin
  if before = owner then
    return;
  end if;
  -- the new owner needs CREATE on the schema at this moment, and only at this moment
  if lends then execute format('grant create on schema rowcast to %I', owner); end if;
  execute format('alter function %s owner to %I', rule, owner);
  if lends then execute format('revoke create on schema rowcast from %I', owner); end if;
  perform rowcast.forget_role(before);
end $$;
comment on function rowcast.give_rule(regprocedure, name) is 'gives the function of a user rule to the table''s owner';
