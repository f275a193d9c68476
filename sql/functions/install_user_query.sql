-- rowcast.install_user_query(target, query, suffix of the triggers' names) -> void
-- Turns a user rule that is a query over "row" into the trigger function rowcast.users_of_<oid>() with its trigger
-- "!!rowcast_users", which sorts before "!rowcast" and hands it the users through the setting rowcast.users.
-- A static query, so that its plan is kept: 6 microseconds a row, where EXECUTE costs 28.
--
-- It belongs to the table's owner, so the rule can read what that owner can. It must not fail the application's
-- write when a column it names is gone: hence the EXCEPTION block, which burns no transaction id as long as the
-- query writes nothing. The failure is kept in rowcast.users and reported by the relay. A column that is named as one
-- of the function's variables is the column, as in any other query.
create or replace function rowcast.install_user_query(target regclass, query text, suffix text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  function_name text := format('rowcast.users_of_%s()', target::oid);
  dynamic text := format(
    'select array(select u.id::text from (select ($1).*) row, lateral (%s) u(id) where u.id is not null)',
    query);
  owner name := (select pg_get_userbyid(relowner) from pg_class where oid = target);
begin
  begin
    execute format(
      'select u.id::pg_catalog.text from (select (null::%s).*) row, lateral (%s) u(id) limit 0',
      target,
      query);
  exception when others then
    raise exception 'cannot watch table %: its user rule is not a query that works: %', target, sqlerrm
      using errcode = sqlstate,
            hint = 'give a column of the table, or a query over row with schema-qualified names and one column, such '
                   'as '
                   '''select r.user_id from public.reservations r where r.reservation_id = row.reservation_id''';
  end;
  execute format($f$
    create or replace function %s
    returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $rule$
    #variable_conflict use_column
    declare
      users text[];
    begin
      if tg_op = 'UPDATE' and old *= new then return null; end if;
      begin
        if tg_op = 'DELETE' then
          users := array(select u.id::text from (select old.*) row, lateral (%s) u(id) where u.id is not null);
        else
          users := array(select u.id::text from (select new.*) row, lateral (%s) u(id) where u.id is not null);
        end if;
      exception when others then
        -- a plan from before a column changed its type fails as long as the session lives: made anew, it may work
        begin
          if tg_op = 'DELETE' then execute %L into users using old; else execute %L into users using new; end if;
        exception when others then
          users := null;
        end;
      end;
      perform set_config(%L, coalesce(users::text, '{NULL}'), true);
      return null;
    end $rule$ $f$, function_name, query, query, dynamic, dynamic, 'rowcast.users' || suffix);
  execute format('revoke execute on function %s from public', function_name);
  execute format('comment on function %s is %L', function_name, 'user rule of ' || target || ': ' || query);
  execute format(
    'create trigger %I after insert or update or delete on %s for each row execute function %s',
    '!!rowcast_users' || suffix,
    target,
    function_name);
  perform rowcast.give_rule(function_name::regprocedure, owner);
end $$;
comment on function rowcast.install_user_query(regclass, text, text) is
  'makes the trigger function of a user rule that is a query';
