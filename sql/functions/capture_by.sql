-- rowcast.capture_by('plpgsql' or 'native') -> void
-- What the triggers of all watched tables call, from the next statement on. No table is locked: the function is
-- replaced, its triggers stay. Native code is the library of the folder native/. It takes plain rows, and hands
-- whatever is special to rowcast.capture_plpgsql.
create or replace function rowcast.capture_by(code text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  -- in two pieces: the library has one name in all installations
  library text := 'row' || 'cast_capture';
  suffix text;
begin
  foreach suffix in array array['', '_brief'] loop
    if code = 'native' then
      execute format('create or replace function rowcast.capture%s() returns trigger language c as %L, %L',
                     suffix,
                     library,
                     library || suffix || '_1');
    else
      execute format('create or replace function rowcast.capture%s() returns trigger language plpgsql security definer '
                     'as %L',
                     suffix,
                     (select p.prosrc from pg_proc p
                       where p.oid = to_regprocedure(format('rowcast.capture%s_plpgsql()', suffix))));
    end if;
    -- an event trigger may have given it away, as sql/owners.sql says; where it is ours this asks for no right
    execute format('alter function rowcast.capture%s() owner to rowcast_capture', suffix);
    if (select p.proowner <> 'rowcast_capture'::regrole from pg_proc p
         where p.oid = to_regprocedure(format('rowcast.capture%s()', suffix))) then
      raise exception 'an event trigger of this database gives away rowcast.capture%', suffix
        using errcode = 'object_not_in_prerequisite_state', hint = 'disable it around this call';
    end if;
  end loop;
exception
  when undefined_file then
    raise exception 'this server does not have the library %', library
      using errcode = 'undefined_file',
            hint = 'install it on each server that may become the primary: docs/guides/native-capture.md';
  when insufficient_privilege then
    if code <> 'native' then
      raise;
    end if;
    raise exception 'native code is chosen by a superuser' using errcode = 'insufficient_privilege';
end $$;
comment on function rowcast.capture_by(text) is 'chooses what captures plain changes: plpgsql or native';
