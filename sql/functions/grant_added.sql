-- rowcast.grant_added(target) -> boolean, whether the relay may read all columns that its changes carry
-- Of a table with excluded columns the relay's right to read is by column, and a column that is added later has none:
-- a relay calls it before it reads rows, and each ten seconds, with the rights of the role that installed rowcast. Such
-- a column is in changes at once, so nothing is shown that was not. Where the DBA took the right to read away
-- altogether it stays so. No lock is waited for: ACCESS SHARE keeps a concurrent ALTER TABLE from failing because two
-- state a column at once.
-- tables touched: none, but for the rights of target
create or replace function rowcast.grant_added(target regclass) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  columns text;
begin
  if not exists (select from rowcast.shown_column s join rowcast.channel c on c.id = s.channel
                  where c.target = grant_added.target
                    and not has_column_privilege('rowcast_relay', grant_added.target::oid, s.attnum, 'select')) then
    return true;
  end if;
  -- its own, not what everybody may read
  if not exists (
    select from (select c.relacl from pg_class c where c.oid = target
                 union all select a.attacl
                  from pg_attribute a
                 where a.attrelid = target and a.attnum > 0 and not a.attisdropped) rights(acl),
           aclexplode(rights.acl) a where a.grantee = 'rowcast_relay'::regrole and a.privilege_type = 'SELECT') then
    return false;
  end if;
  execute format('lock table %s in access share mode nowait', target);
  -- by the names that the columns have under the lock
  select string_agg(quote_ident(s.name), ', ' order by s.attnum) into columns
    from rowcast.shown_column s
    join rowcast.channel c on c.id = s.channel
   where c.target = grant_added.target
     and not has_column_privilege('rowcast_relay', grant_added.target::oid, s.attnum, 'select');
  if columns is null then
    return true;
  end if;
  execute format('grant select (%s) on %s to rowcast_relay', columns, target);
  return not exists (
    select from rowcast.shown_column s join rowcast.channel c on c.id = s.channel
     where c.target = grant_added.target
       and not has_column_privilege('rowcast_relay', grant_added.target::oid, s.attnum, 'select'));
exception when others then
  -- locked, gone, or an event trigger of the application refuses the GRANT: rowcast.watched says what to run
  return false;
end $$;
comment on function rowcast.grant_added(regclass) is 'lets the relay read columns that were added beside excluded ones';
