-- rowcast.actor() -> text
-- Who did it: the setting rowcast.actor where the application set one, else session user and application name. Plain
-- SQL, so that it is inlined.
create or replace function rowcast.actor() returns text language sql stable as $$
  select case when pg_catalog.length(pg_catalog.current_setting('rowcast.actor', true)) operator(pg_catalog.>) 0
              then pg_catalog.current_setting('rowcast.actor', true)
              when pg_catalog.length(pg_catalog.current_setting('application_name')) operator(pg_catalog.>) 0
              then session_user::pg_catalog.text operator(pg_catalog.||) '/' operator(pg_catalog.||) pg_catalog.current_setting('application_name')
              else session_user::pg_catalog.text end
$$;
comment on function rowcast.actor() is 'who writes: the setting rowcast.actor, else session user and application name';
