-- rowcast.actor() -> text, of 200 characters at most
-- Who did it: the setting rowcast.actor where the application set one, else session user and application name. A type
-- cuts it off, not left(), which looks at each character and fails the write where bytes came without a check. Plain
-- SQL, so that it is inlined, and of few functions, as each is made ready for every captured row. The session user by
-- its setting, not by session_user, which looks the role up and fails the write of a connection whose role was dropped
-- since.
create or replace function rowcast.actor() returns text language sql stable as $$
  select case when pg_catalog.current_setting('rowcast.actor', true) operator(pg_catalog.<>) ''
              then pg_catalog.current_setting('rowcast.actor', true)::pg_catalog.varchar(200)::pg_catalog.text
              else pg_catalog.current_setting('session_authorization')
                operator(pg_catalog.||) case
                  when pg_catalog.current_setting('application_name') operator(pg_catalog.<>) ''
                  then '/' operator(pg_catalog.||) pg_catalog.current_setting('application_name')
                  else '' end end
$$;
comment on function rowcast.actor() is 'who writes: the setting rowcast.actor, else session user and application name';
