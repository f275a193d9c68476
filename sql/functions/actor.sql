-- rowcast.actor() -> text
-- Who did it: the setting rowcast.actor where the application set one, else session user and application name.
create or replace function rowcast.actor() returns text language plpgsql stable as $$
declare
  actor text := pg_catalog.current_setting('rowcast.actor', true);
  application text;
begin
  if actor operator(pg_catalog.<>) '' then
    return actor;
  end if;
  application := pg_catalog.current_setting('application_name');
  if application operator(pg_catalog.=) '' then
    return session_user;
  end if;
  return session_user operator(pg_catalog.||) '/' operator(pg_catalog.||) application;
end $$;
comment on function rowcast.actor() is 'who writes: the setting rowcast.actor, else session user and application name';
