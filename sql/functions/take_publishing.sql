-- rowcast.take_publishing(instance, since, replaces) -> boolean, whether this session is the publisher
-- Called by each candidate about once a second; writes only when the publisher changes.
--   instance, since  the node, and when the calling session began
--   replaces         also where the publisher's session is there, since nothing was heard of it
-- A node of the version before this one holds an advisory lock instead. It is heeded where it is held by a role that
-- may publish, and taken besides by the caller, so that an old node heeds a new one.
-- tables touched: rowcast.publisher (select for update, update)
create or replace function rowcast.take_publishing(instance text, since timestamptz, replaces boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  known rowcast.publisher;
begin
  for attempt in 1 .. 2 loop
    if attempt = 1 then
      select * into known from rowcast.publisher;
    else
      -- another candidate is taking it, or another session that may do so holds the row: later
      select * into known from rowcast.publisher for update skip locked;
      if not found then
        return false;
      end if;
    end if;
    if known.pid = pg_backend_pid() and known.since = take_publishing.since then
      return true;
    end if;
    if not replaces and (
      -- of another role's session its beginning may be hidden, its name is not
      exists (select from pg_stat_activity a where a.pid = known.pid
                 and coalesce(a.backend_start = known.since, a.application_name = 'rowcast publish ' || known.instance))
      or exists (select from pg_locks l join pg_stat_activity a on a.pid = l.pid
                  where l.locktype = 'advisory'
                    and l.classid = 1919907683
                    and l.objid = 7
                    and l.objsubid = 2
                    and l.granted
                    and l.database = (select oid from pg_database where datname = current_database())
                    and l.pid not in (pg_backend_pid(), known.pid) and a.application_name ~ '^rowcast publish '
                    and has_function_privilege(a.usesysid, 'rowcast.note_life()', 'execute'))) then
      return false;
    end if;
  end loop;
  update rowcast.publisher p
    set pid = pg_backend_pid(), since = take_publishing.since, instance = take_publishing.instance;
  perform pg_try_advisory_lock(1919907683, 7);
  return true;
end $$;
comment on function rowcast.take_publishing(text, timestamptz, boolean) is
  'makes the calling session the publisher, if there is none';
