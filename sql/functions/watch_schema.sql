-- rowcast.watch_schema(name, prefix, except_tables, future) -> table(target, channel)
-- Watches every ordinary or partitioned table of a schema that is not watched yet, and returns what it watched.
--   prefix         what each channel's name begins with: 't2-' where another schema has tables of the same names
--   except_tables  tables that are left out
--   future         true: a relay watches the tables that are added later as well, within ten seconds; what was written
--                  before is in snapshots only. See rowcast.newcomer for what counts as new. rowcast.unwatch takes one
--                  out until rowcast.watch is called for it; false ends it
-- What is left out is as the last call with future said it. A function is one transaction, and keeps the lock of each
-- table to its end: so all that needs no lock comes first, then for some seconds a look which other sessions hold
-- locks, then the triggers, a table in less than a millisecond. A table that stays locked, or cannot be watched as it
-- is, is left out, with a warning. In a schema of hundreds of tables that are written to: call rowcast.watch_each, or
-- `rowcast watch --schema`, which commit after each table.
-- tables touched: rowcast.channel (insert, delete), rowcast.outbox_0..2 (insert)
create or replace function rowcast.watch_schema(
  name text,
  prefix text default null,
  except_tables text[] default null,
  future boolean default null)
returns table (target regclass, channel text)
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  wanted regclass[];
  busy regclass[];
  attempts int := 0;
  remedy text;
begin
  select s.prefix, s.except_tables into prefix, except_tables
    from rowcast.state_schema(name, prefix, except_tables, future) s;
  wanted := rowcast.unwatched_of(name, except_tables);
  loop
    -- tables that a session has written to, or keeps writers out of
    busy := array(select distinct l.relation::regclass from pg_locks l
                   where l.locktype = 'relation'
                     and l.granted
                     and l.relation = any (wanted::oid[])
                     and l.pid is distinct from pg_backend_pid()
                     and l.database = (select oid from pg_database where datname = current_database())
                     and l.mode not in ('AccessShareLock', 'RowShareLock'));
    exit when busy = '{}' or attempts >= 50;
    attempts := attempts + 1;
    perform pg_sleep(0.1);
  end loop;
  foreach target in array busy loop
    raise warning 'table % is not watched: it stayed locked for five seconds', target
      using hint = format('when that transaction has ended: select rowcast.watch(%L);', target::text);
  end loop;
  wanted := array(select w from unnest(wanted) with ordinality w(w, n) where w <> all (busy) order by n);
  foreach target in array wanted loop
    begin
      if rowcast.note_watch(target, null, null, null, '{}', null, null, false, prefix) is null then
        wanted := array_remove(wanted, target);
      end if;
    exception when others then
      get stacked diagnostics remedy = pg_exception_hint;
      raise warning 'table % is not watched: %', target, sqlerrm using hint = remedy;
      wanted := array_remove(wanted, target);
    end;
  end loop;
  foreach target in array wanted loop
    perform rowcast.install_triggers(target);
  end loop;
  return query select c.target, c.name
                 from rowcast.channel c
                 join unnest(wanted) with ordinality w(w, n) on c.target = w
                order by n;
end $$;
select rowcast.supersede('rowcast.watch_schema(text)', 'rowcast.watch_schema(text, text, text[], boolean)');
comment on function rowcast.watch_schema(text, text, text[], boolean) is
  'watches every table of a schema that is not watched yet';
