-- Rights, all in one place. Two roles without login:
--   rowcast_capture  owns the trigger functions, and may add to the outbox and to hidden_column, read that, setting and
--                    some columns of channel, and read and set the sequences capture_state: the owner of a watched
--                    table can have the trigger run the owner's code (an output function, say), so this role must have
--                    nothing to take
--   rowcast_relay    what `rowcast serve` needs: reads the schema, and calls the functions below, of which grant_added
--                    and watch_newcomer act on the application's tables with the owner's rights. A member of
--                    pg_read_all_stats where that may be granted here, so it sees the statements of all sessions:
--                    revoke pg_read_all_stats from rowcast_relay takes that away until the next migrate. Give it a
--                    login: alter role rowcast_relay login password '..'; or make another role a member of it
-- PUBLIC has nothing that is of use without the schema: the application's roles need no right on it to write a watched
-- table.
do $do$
declare
  me oid := (select oid from pg_roles where rolname = current_user);
  is_super bool := (select rolsuper from pg_roles where oid = me);
  may_create bool := (select rolsuper or rolcreaterole from pg_roles where oid = me);
  role name;
  -- what somebody else has to run, all of it
  needed text := '';
begin
  foreach role in array array['rowcast_capture', 'rowcast_relay'] loop
    if not exists (select from pg_roles where rolname = role) then
      if may_create then
        begin
          execute format('create role %I nologin', role);
        exception when duplicate_object or unique_violation then
          null;  -- another database's migrate was faster
        end;
      else
        needed := needed || format('create role %I nologin; ', role);
      end if;
    end if;
    if not exists (select from pg_roles where rolname = role) or not pg_has_role(me, role, 'usage') then
      -- from 16 on, CREATEROLE is for the roles that one has made: those of another database's migrate are not
      if exists (select from pg_roles where rolname = role)
         and (is_super
           or (may_create and current_setting('server_version_num')::int < 160000)
           or pg_has_role(me, role, 'member with admin option')) then
        execute format('grant %I to %I', role, current_user);
      else
        needed := needed || format('grant %I to %I; ', role, current_user);
      end if;
    end if;
  end loop;
  if needed <> '' then
    raise exception 'role % lacks what rowcast needs', current_user
      using errcode = 'insufficient_privilege',
            hint = 'let a superuser, or the role that installed rowcast in another database of this server, run: '
              || needed
              || 'Then run it again';
  end if;
  -- else rowcast.health cannot show the relay the oldest transaction of another role
  if not pg_has_role('rowcast_relay', 'pg_read_all_stats', 'member') then
    begin
      grant pg_read_all_stats to rowcast_relay;
    exception when insufficient_privilege or internal_error then
      raise notice 'rowcast_relay is no member of pg_read_all_stats: rowcast.health shows it less';
    end;
  end if;
end $do$;

revoke all on schema rowcast from public;
revoke all on all tables in schema rowcast from public;
revoke all on all sequences in schema rowcast from public;
revoke execute on all routines in schema rowcast from public;

-- What is new here may have been granted to others by the role that installs (alter default privileges ..). What was
-- there before keeps the grants that the DBA has made: rowcast.before are its numbers, none where the printed script
-- runs.
do $do$
declare
  before oid[] := coalesce(nullif(current_setting('rowcast.before', true), ''), '{}')::oid[];
  statement text;
begin
  for statement in
    select format(
      'revoke all on %s from %s cascade',
      o.what,
      case o.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(o.grantee)) end)
      from (
        select 'schema rowcast', n.oid, n.nspowner, a.grantee
          from pg_namespace n, aclexplode(n.nspacl) a
         where n.nspname = 'rowcast'
        union
        select case c.relkind when 'S' then 'sequence ' else 'table ' end || c.oid::regclass,
               c.oid,
               c.relowner,
               a.grantee
          from pg_class c, aclexplode(c.relacl) a
         where c.relnamespace = 'rowcast'::regnamespace and c.relkind in ('r', 'v', 'S')
        union
        select 'routine ' || p.oid::regprocedure, p.oid, p.proowner, a.grantee
          from pg_proc p, aclexplode(p.proacl) a where p.pronamespace = 'rowcast'::regnamespace
      ) o(what, number, owner, grantee)
     where o.number <> all (before) and o.grantee <> o.owner
       and (o.grantee = 0 or pg_get_userbyid(o.grantee) not in ('rowcast_capture', 'rowcast_relay'))
  loop
    execute statement;
  end loop;
end $do$;

grant usage on schema rowcast to rowcast_capture;
grant insert on rowcast.outbox_0,
  rowcast.outbox_1,
  rowcast.outbox_2,
  rowcast.outbox_3,
  rowcast.outbox_4,
  rowcast.outbox_5 to rowcast_capture;
grant usage on sequence rowcast.outbox_id to rowcast_capture;
-- reads the state with each change, and sets it where the outbox is full
grant usage, select, update on sequence rowcast.capture_state, rowcast.capture_state_brief to rowcast_capture;
grant select on rowcast.setting to rowcast_capture, rowcast_relay;
grant select, insert on rowcast.hidden_column to rowcast_capture;
grant select (id, name, target, user_column) on rowcast.channel to rowcast_capture;
grant execute on function rowcast.bell_mode(), rowcast.actor(), rowcast.append(int, "char", json, json, text, text[]),
  rowcast.append_brief(int, "char", json, json, text, text[]),
  rowcast.ring(text, "char", json), rowcast.bound_outbox(), rowcast.bound_outbox_brief(), rowcast.row_bytes(),
  rowcast.json_without(anyelement, oid, oid, int2[], text[], int2[]),
  rowcast.json_within(anyelement, oid, oid, int2[], text[], int2[]),
  rowcast.json_key(anyelement, oid, int), rowcast.json_differing(json, json),
  rowcast.output_deviates(), rowcast.is_plain(text[]),
  rowcast.capture_large("char", anyelement, anyelement, oid, oid, int, int2[], text[], int2[]),
  rowcast.capture_pinned("char", anyelement, anyelement, oid, oid, int2[], text[], int2[]) to rowcast_capture;

-- The new owner needs CREATE on the schema at this moment, and only at this moment.
grant create on schema rowcast to rowcast_capture;
alter function rowcast.capture() owner to rowcast_capture;
alter function rowcast.capture_truncate() owner to rowcast_capture;
alter function rowcast.capture_brief() owner to rowcast_capture;
alter function rowcast.capture_plpgsql() owner to rowcast_capture;
alter function rowcast.capture_brief_plpgsql() owner to rowcast_capture;
alter function rowcast.capture_truncate_brief() owner to rowcast_capture;
alter function rowcast.notify(text, text, jsonb) owner to rowcast_capture;
alter function rowcast.publish(text, text, jsonb) owner to rowcast_capture;
revoke create on schema rowcast from rowcast_capture;

grant usage on schema rowcast to rowcast_relay;
grant select on all tables in schema rowcast to rowcast_relay;
grant select on sequence rowcast.outbox_id, rowcast.capture_state, rowcast.capture_state_brief to rowcast_relay;
grant execute on function rowcast.serves(),
  rowcast.bell_mode(),
  rowcast.row_bytes(),
  rowcast.types_within(oid),
  rowcast.casts_to_json(regclass),
  rowcast.members(text[]),
  rowcast.claim_body(text),
  rowcast.row_security(regclass),
  rowcast.check_filter(text, text),
  rowcast.json_within(anyelement, oid, oid, int2[], text[], int2[]),
  rowcast.prune(),
  rowcast.note_tally(),
  rowcast.keep_excluded(),
  rowcast.note_forms(),
  rowcast.grant_added(regclass),
  rowcast.note_tables(),
  rowcast.watch_newcomer(regclass),
  rowcast.unwatched_of(text, text[]),
  rowcast.free_channel(regclass, text),
  rowcast.watch_call(text, text, text, jsonb, text[], text, text[], boolean),
  rowcast.note_life(),
  rowcast.note_durable(),
  rowcast.origin(),
  rowcast.drifted_names(rowcast.policy),
  rowcast.take_publishing(text, timestamptz, boolean),
  rowcast.note_node(text, text, text, text, timestamptz, bigint, float8, pg_snapshot),
  rowcast.note_node(text, text, text, text, timestamptz, bigint, float8, pg_snapshot, int) to rowcast_relay;

-- What a view calls is called with the rights of the role that reads it. These put texts together, or read which tables
-- are watched with the rights of their owner, and tell no more than the views. Schema rowcast itself stays closed, so a
-- monitoring role needs USAGE on it, and SELECT on the views that it may see.
grant execute on function rowcast.bell_mode(),
  rowcast.origin(),
  rowcast.drifted_names(rowcast.policy),
  rowcast.types_within(oid),
  rowcast.casts_to_json(regclass),
  rowcast.filter_tests(text),
  rowcast.unwatched_of(text, text[]),
  rowcast.free_channel(regclass, text),
  rowcast.watch_call(text, text, text, jsonb, text[], text, text[], boolean) to public;

-- An application shows rows with the position at which it has read them. It tells nothing that a snapshot of Postgres'
-- own does not tell, and the key of its seal is not in it.
grant execute on function rowcast.cursor() to public;

-- A role that may read all of it, for a dump, may read what is new.
do $do$
declare
  before oid[] := coalesce(nullif(current_setting('rowcast.before', true), ''), '{}')::oid[];
  reader name;
begin
  for reader in
    select pg_get_userbyid(a.grantee) from pg_class c, aclexplode(c.relacl) a
     where c.relnamespace = 'rowcast'::regnamespace
       and c.relkind = 'r'
       and c.oid = any (before)
       and a.privilege_type = 'SELECT'
       and a.grantee not in (0, c.relowner)
       and pg_get_userbyid(a.grantee) not in ('rowcast_capture', 'rowcast_relay')
     group by a.grantee
    having count(distinct c.oid)
      = (select count(*)
           from pg_class t
          where t.relnamespace = 'rowcast'::regnamespace and t.relkind = 'r' and t.oid = any (before))
  loop
    execute format(
      'grant select on all tables in schema rowcast to %1$I; grant select on all sequences in schema rowcast to %1$I',
      reader);
  end loop;
end $do$;

-- The function of a user rule runs with the rights of its owner. After a dump was restored that is the role that
-- restored it, and after ALTER TABLE .. OWNER TO the owner of before.
do $do$
declare
  rule record;
begin
  for rule in
    select p.oid::regprocedure as name, pg_get_userbyid(c.relowner) as owner, pg_get_userbyid(p.proowner) as before
      from pg_proc p
      left join pg_trigger t on t.tgfoid = p.oid and t.tgparentid = 0
      left join pg_class c on c.oid = t.tgrelid
     where p.pronamespace = 'rowcast'::regnamespace and p.proname ~ '^users_of_[0-9]+$'
  loop
    begin
      if rule.owner is null then
        execute format('drop function %s', rule.name);
      else
        perform rowcast.give_rule(rule.name, rule.owner);
      end if;
      perform rowcast.forget_role(rule.before);
    exception when insufficient_privilege then
      raise warning 'the user rule % runs as %, and its table belongs to %', rule.name, rule.before, rule.owner
        using hint = 'let the table''s owner, or a superuser, call rowcast.watch again';
    end;
  end loop;
end $do$;
