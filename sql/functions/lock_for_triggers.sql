-- rowcast.lock_for_triggers(target) -> void
-- Takes the lock that the change of triggers needs, a fifth of a second at a time: a lock request that waits makes
-- everybody else queue behind it, so none may wait long. Gives up after about ten seconds. CREATE TRIGGER keeps
-- writers out, DROP TRIGGER readers too: so where there are triggers of ours, that lock is taken at once.
create or replace function rowcast.lock_for_triggers(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
  attempts int := 0;
  mode text := case when exists (select from pg_trigger t where t.tgrelid = target and t.tgname ~ '^!!?rowcast')
                    then 'access exclusive' else 'share row exclusive' end;
begin
  loop
    begin
      execute format('lock table %s in %s mode', target, mode);
      return;
    exception when lock_not_available then
      attempts := attempts + 1;
      if attempts >= 25 then
        raise exception 'cannot change the triggers of table %: it stayed locked for ten seconds', target
          using errcode = 'lock_not_available',
                hint = 'see who holds it (select * from rowcast.health; pg_blocking_pids) and try again when that transaction has ended';
      end if;
    end;
    perform pg_sleep(0.1 + 0.2 * random());
  end loop;
end $$;
comment on function rowcast.lock_for_triggers(regclass) is 'takes a table''s lock for trigger changes without making writers queue';
