-- rowcast.lock_for_triggers(target) -> void
-- Takes the lock that the change of triggers needs, a fifth of a second at a time: a lock request that waits makes
-- everybody else queue behind it, so none may wait long. Gives up after about ten seconds. CREATE TRIGGER keeps
-- writers out, DROP TRIGGER readers too: so where there are triggers of ours, that lock is taken at once.
--
-- An autovacuum gives way to a session that has waited for deadlock_timeout, 1 s, which is longer than any try here. So
-- the lock that keeps out nothing but such work is waited for once: neither a reader nor a writer queues behind it.
--
-- A transaction that has such a lock on another table already gives up after the first try: sessions that use that
-- table would wait as well.
create or replace function rowcast.lock_for_triggers(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
  attempts int := 0;
  held regclass;
  mode text := case
    when exists (select from pg_trigger t
                  where t.tgrelid = target and t.tgname ~ '^!!?rowcast(_users|_u|_t)?(_[0-9]+)?$')
                    then 'access exclusive' else 'share row exclusive' end;
begin
  loop
    begin
      execute format('lock table %s in %s mode', target, mode);
      return;
    exception when lock_not_available then
      attempts := attempts + 1;
    end;
    select l.relation into held from pg_locks l join pg_class c on c.oid = l.relation
     where attempts = 1 and l.pid = pg_backend_pid() and l.locktype = 'relation' and l.granted and l.relation <> target
       and l.mode in ('ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') and c.relkind in ('r', 'p')
       and c.relnamespace
         <> all (array(select oid from pg_namespace where nspname in ('pg_catalog', 'rowcast', 'pg_toast')))
       and l.database = (select oid from pg_database where datname = current_database()) limit 1;
    if found then
      raise exception 'cannot change the triggers of table %: it is in use by %, and this transaction has locked % '
                      'already',
        target, rowcast.holders(target, true), held
        using errcode = 'lock_not_available',
              hint = 'one table in a transaction: sessions that use the locked one would wait as well. To unwatch '
                     'all: call rowcast.unwatch_all();';
    elsif attempts >= 25 then
      raise exception 'cannot change the triggers of table %: it stayed locked for ten seconds, by %',
        target,
        rowcast.holders(target, true)
        using errcode = 'lock_not_available',
              hint = 'try again when that transaction has ended; if it is forgotten, end it with its pid from above: '
                     'select pg_terminate_backend(PID);';
    end if;
    if attempts = 1 then
      begin
        if exists (select from pg_locks l
                     join pg_stat_activity a on a.pid = l.pid and a.usesysid is null
                    where l.locktype = 'relation' and l.granted
                      and (l.relation = target
                        or l.relation in (select p.relid::oid from pg_partition_tree(target) p))
                      and l.database = (select oid from pg_database where datname = current_database())) then
          perform set_config(
            'lock_timeout',
            (1000 + extract(epoch from current_setting('deadlock_timeout')::interval) * 1000)::int::text,
            true);
          execute format('lock table %s in share update exclusive mode', target);
        end if;
      exception when lock_not_available then
        null;  -- one against wraparound, which gives way to nobody
      end;
      perform set_config('lock_timeout', '200ms', true);
    end if;
    perform pg_sleep(0.1 + 0.2 * random());
  end loop;
end $$;
comment on function rowcast.lock_for_triggers(regclass) is
  'takes a table''s lock for trigger changes without making writers queue';
