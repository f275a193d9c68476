-- rowcast.grant_snapshot(target) -> void
-- Lets the relay read a watched table for snapshots: every column that its changes carry, and no other. Where the
-- caller may not grant that, a warning says what the table's owner has to run; changes are captured all the same.
create or replace function rowcast.grant_snapshot(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  columns text := '';
  statements text;
  schema oid;
begin
  if exists (select from rowcast.channel c
              where c.target = grant_snapshot.target and (c.exclude <> '{}' or c.allowed is not null)) then
    select '(' || string_agg(quote_ident(s.name), ', ' order by s.attnum) || ')' into columns
      from rowcast.shown_column s join rowcast.channel c on c.id = s.channel where c.target = grant_snapshot.target;
    if columns is null then
      return;  -- nothing of it may leave
    end if;
  end if;
  schema := (select relnamespace from pg_class where oid = target);
  statements := format(
    'revoke select on %s from rowcast_relay; grant select %s on %s to rowcast_relay',
    target,
    columns,
    target);
  execute statements;
  if not has_schema_privilege('rowcast_relay', schema, 'usage') then
    statements := format('grant usage on schema %s to rowcast_relay', schema::regnamespace);
    -- to grant what one may not grant is a warning of the server, and no error
    if not has_schema_privilege(current_user, schema, 'usage with grant option') then
      raise warning 'snapshots of table % are not possible: the relay may not use its schema',
        target using hint = statements;
    else
      execute statements;
    end if;
  end if;
exception when insufficient_privilege then
  raise warning 'snapshots of table % are not possible: %', target, sqlerrm using hint = statements;
end $$;
comment on function rowcast.grant_snapshot(regclass) is 'lets the relay read a watched table for snapshots';
drop function if exists rowcast.grant_snapshot(regclass, int2[]);
