-- Before anything else: whose schema is this? Its owner may replace whatever is in it, and so may the owner of each
-- object. Where that is a role that was quicker to take the name, what is installed here would run that role's
-- functions with the rights of the next role that looks at it.
do $do$
declare
  is_super bool := (select rolsuper from pg_roles where rolname = current_user);
  trusted oid[] := array(select r.oid from pg_roles r where r.rolsuper or r.rolname = current_user
                         or (not is_super and pg_has_role(current_user, r.oid, 'usage')));
  schema oid;
  owner oid;
  strangers text;
begin
  if quote_ident('rowcast') <> 'rowcast' then
    raise exception 'an installation of rowcast cannot be named %: it is a word of SQL', quote_ident('rowcast')
      using errcode = 'reserved_name', hint = 'choose another --schema';
  end if;
  if exists (select from pg_roles where rolname in ('rowcast_capture', 'rowcast_relay') and rolsuper) then
    raise exception 'a role of rowcast is superuser, and its triggers would run as superuser'
      using errcode = 'invalid_grant_operation',
        hint = 'alter role rowcast_capture nosuperuser; alter role rowcast_relay nosuperuser;';
  end if;
  select n.oid, n.nspowner into schema, owner from pg_namespace n where n.nspname = 'rowcast';
  if not found then
    -- a subscriber of such a publication that does not have these tables stops at the first row of them
    select string_agg(quote_ident(pubname), ', ') into strangers from pg_publication where puballtables;
    if strangers is not null and coalesce(current_setting('rowcast.all_tables', true), '') <> 'on' then
      raise exception 'a publication is FOR ALL TABLES, and would have the tables of rowcast too: %', strangers
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'its subscribers stop where they do not have schema rowcast. Publish the application''s tables by '
                     'name, or from Postgres 15 on by schema (FOR TABLES IN SCHEMA); where every subscriber '
                     'passes schema rowcast over: '
                || format('alter database %I set rowcast.all_tables = on;', current_database());
    end if;
    return;
  end if;
  -- ours has these tables from its first migration on; one that was made for it is empty
  if (select count(*)
        from pg_class c
       where c.relnamespace = schema and c.relkind = 'r' and c.relname in ('installation', 'incarnation', 'outbox_0'))
    < 3 then
    select string_agg(what, ', ' order by what) into strangers from (
      select * from (
        select c.oid::regclass::text
          from pg_class c
         where c.relnamespace = schema
           and c.relowner = owner
           and c.relkind not in ('i', 'I', 't')
           and c.relname <> 'schema_history'
        union all
        select p.oid::regprocedure::text from pg_proc p where p.pronamespace = schema and p.proowner = owner
        union all
        select t.oid::regtype::text
          from pg_type t
         where t.typnamespace = schema and t.typowner = owner and t.typrelid = 0 and t.typelem = 0
      ) all_of_them(what) order by what limit 5) found(what);
    if strangers is not null then
      raise exception 'schema rowcast has what is not of rowcast: %', strangers
        using errcode = 'duplicate_schema',
              hint = 'uninstall would drop it with the schema. Choose a schema that is not there yet: rowcast --schema '
                || left('rowcast', 24)
                || '_rowcast migrate. Where nobody needs what is in this one: drop schema rowcast cascade;';
    end if;
  end if;
  if owner <> all (trusted) then
    raise exception 'schema rowcast belongs to role %, who could change what runs here as %',
      pg_get_userbyid(owner),
      current_user
      using errcode = 'insufficient_privilege',
            hint = format(
              'if rowcast was installed by %I: install and update it as %I. If not: drop schema rowcast cascade;',
              pg_get_userbyid(owner),
              pg_get_userbyid(owner));
  end if;
  select string_agg(what || ' of ' || pg_get_userbyid(whose), ', ') into strangers from (
    select * from (
      select c.oid::regclass::text, c.relowner
        from pg_class c
       where c.relnamespace = schema and c.relkind not in ('i', 'I', 't')
      union all
      -- the function of a user rule is the table's owner's
      select p.oid::regprocedure::text, p.proowner from pg_proc p
       where p.pronamespace = schema
         and not (p.proname ~ '^users_of_[0-9]+$' and p.pronargs = 0 and p.prorettype = 'trigger'::regtype)
      union all
      select t.oid::regtype::text, t.typowner
        from pg_type t
       where t.typnamespace = schema and t.typrelid = 0 and t.typelem = 0
    ) all_of_them(what, whose)
     where whose <> all (trusted) and whose <> owner and pg_get_userbyid(whose) <> 'rowcast_capture'
     order by what
     limit 5) found(what, whose);
  if strangers is not null then
    raise exception 'in schema rowcast is what others own, who could change it: %', strangers
      using errcode = 'insufficient_privilege',
        hint = 'drop it, or give it to the schema''s owner after you have read it';
  end if;
end $do$;
