-- Rights, all in one place. Two roles without login:
--   rowcast_capture  owns the trigger functions and may only add to the outbox: whoever owns a watched table can make
--                    the trigger run code of his (an output function, say), so its owner must have nothing to take
--   rowcast_relay    what `rowcast serve` needs. Give it a login: alter role rowcast_relay login password '..';
--                    or make another role a member of it
-- PUBLIC has nothing: the application's roles need no right on schema rowcast to write a watched table.
do $do$
declare
  role name;
begin
  foreach role in array array['rowcast_capture', 'rowcast_relay'] loop
    if not exists (select from pg_roles where rolname = role) then
      begin
        execute format('create role %I nologin', role);
      exception
        when duplicate_object or unique_violation then null;  -- another database's migrate was faster
        when insufficient_privilege then
          raise exception 'role % is missing and % may not create roles', role, current_user
            using errcode = 'insufficient_privilege', hint = format('let a superuser run: create role %I nologin; grant %I to %I;', role, role, current_user);
      end;
    end if;
    if not pg_has_role(current_user, role, 'usage') then
      execute format('grant %I to %I', role, current_user);
    end if;
  end loop;
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
revoke execute on all functions in schema rowcast from public;

grant usage on schema rowcast to rowcast_capture;
grant insert on rowcast.outbox_0, rowcast.outbox_1, rowcast.outbox_2 to rowcast_capture;
grant usage on sequence rowcast.outbox_id to rowcast_capture;
grant select (id, name) on rowcast.channel to rowcast_capture;
grant execute on function rowcast.bell_mode(), rowcast.actor(), rowcast.append(int, "char", json, json, text, text[]),
  rowcast.ring(text, "char", json), rowcast.json_without(anyelement, oid, oid, int2[]),
  rowcast.capture_pinned("char", anyelement, anyelement, oid, oid, int2[]) to rowcast_capture;

-- The new owner needs CREATE on the schema at this moment, and only at this moment.
grant create on schema rowcast to rowcast_capture;
alter function rowcast.capture() owner to rowcast_capture;
alter function rowcast.capture_truncate() owner to rowcast_capture;
alter function rowcast.notify(text, text, jsonb) owner to rowcast_capture;
alter function rowcast.publish(text, text, jsonb) owner to rowcast_capture;
revoke create on schema rowcast from rowcast_capture;

grant usage on schema rowcast to rowcast_relay;
grant select on all tables in schema rowcast to rowcast_relay;
grant select on sequence rowcast.outbox_id to rowcast_relay;
grant execute on function rowcast.bell_mode(), rowcast.prune(), rowcast.note_life(), rowcast.note_durable(), rowcast.origin(), rowcast.drifted_names(rowcast.policy),
  rowcast.note_node(text, text, text, text, timestamptz, bigint, float8, pg_snapshot) to rowcast_relay;
