-- After everything else: what was made belongs to the role that made it. An event trigger of the database may have
-- given it to another role, as is usual where many people create tables. The functions and views would then run with
-- the rights of that role, which reads neither the outbox nor the sequences, and its members could change what runs as
-- the owners of the watched tables.
do $do$
declare
  superusers oid[] := array(select r.oid from pg_roles r where r.rolsuper);
  -- the schema that was there before belongs to one of the trusted: sql/guard.sql has looked
  existed bool := coalesce(current_setting('rowcast.before', true), '') not in ('', '{}');
  owner name := (select case when existed then pg_get_userbyid(nspowner) else current_user end
                   from pg_namespace
                  where nspname = 'rowcast');
  statement text;
  strangers text;
  pass int;
begin
  for pass in 1..2 loop
    strangers := null;
    for statement, strangers in
      select format('alter %s %s owner to %I', o.kind, o.what, o.wanted), o.what || ' to ' || pg_get_userbyid(o.whose)
        from (
          select 'schema', quote_ident(nspname), nspowner, owner from pg_namespace where nspname = 'rowcast'
          union all
          select case c.relkind when 'r' then 'table' when 'v' then 'view' when 'S' then 'sequence' end,
                 c.oid::regclass::text,
                 c.relowner,
                 owner
            from pg_class c where c.relnamespace = 'rowcast'::regnamespace and c.relkind in ('r', 'v', 'S')
             -- the sequence of a column goes with its table
             and not exists (select from pg_depend d
                              where d.classid = 'pg_class'::regclass
                                and d.objid = c.oid
                                and c.relkind = 'S'
                                and d.deptype in ('a', 'i'))
          union all
          -- the function of a user rule is the table's owner's
          select 'routine', p.oid::regprocedure::text, p.proowner,
                 case when p.proname in (
                   'capture', 'capture_brief', 'capture_plpgsql', 'capture_brief_plpgsql',
                   'capture_truncate', 'capture_truncate_brief', 'notify', 'publish')
                   then 'rowcast_capture' else owner end
            from pg_proc p
           where p.pronamespace = 'rowcast'::regnamespace and p.proname !~ '^users_of_[0-9]+$'
          union all
          select 'type', t.oid::regtype::text, t.typowner, owner from pg_type t
           where t.typnamespace = 'rowcast'::regnamespace and t.typrelid = 0 and t.typelem = 0
        ) o(kind, what, whose, wanted)
       where pg_get_userbyid(o.whose) <> o.wanted
         -- what an earlier migrate by another role has made may stay its own, where that is a superuser
         and (not existed
           or o.wanted = 'rowcast_capture'
           or (pg_get_userbyid(o.whose) <> current_user and o.whose <> all (superusers)))
    loop
      exit when pass = 2;
      begin
        execute statement;
      exception when insufficient_privilege then
        null;  -- the second look says what it was
      end;
    end loop;
  end loop;
  if strangers is not null then
    raise exception 'an event trigger of this database gives away what rowcast makes: %', strangers
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'let it pass schema rowcast over; or, around the migrate: '
              || (select string_agg(format('alter event trigger %I disable; ', evtname), '' order by evtname)
                || '-- and afterwards: '
                      || string_agg(
                        format(
                          'alter event trigger %I enable%s;',
                          evtname,
                          case evtenabled when 'A' then ' always' when 'R' then ' replica' else '' end),
                        ' ' order by evtname)
                    from pg_event_trigger where evtenabled <> 'D' and evtevent = 'ddl_command_end');
  end if;
  -- without a policy row security fails each write of a watched table, and hides the outbox from the relay
  for statement in
    select format('alter table %s disable row level security, no force row level security', c.oid::regclass)
      from pg_class c
     where c.relnamespace = 'rowcast'::regnamespace
       and c.relkind = 'r'
       and (c.relrowsecurity or c.relforcerowsecurity)
  loop
    execute statement;
  end loop;
  if exists (select from pg_class c
              where c.relnamespace = 'rowcast'::regnamespace and c.relkind = 'r' and c.relrowsecurity) then
    raise exception 'an event trigger of this database turns row security on for the tables of rowcast'
      using errcode = 'object_not_in_prerequisite_state', hint = 'let it pass schema rowcast over';
  end if;
  -- as writers will, whatever was put on these tables
  begin
    begin
      set local role rowcast_capture;
    exception when insufficient_privilege then
      null; -- a login may lack the right, although the role that it has taken may do all else
    end;
    for number in 0..5 loop
      execute format(
        'insert into rowcast.outbox_%s (channel, op, new, actor, depth) values (0, ''I'', ''{}'', '''', 1)', number);
    end loop;
    raise exception 'undone' using errcode = 'RC001';
  exception
    when sqlstate 'RC001' then null;
    when lock_not_available or deadlock_detected then raise;
    when others then
      raise exception 'each write of a watched table would fail: %', sqlerrm
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'an event trigger of this database, or a script, has put something on the tables of rowcast: '
                     'let it pass schema rowcast over';
  end;
  -- What is deleted from can be told apart: else nothing could be watched beside a publication of all tables. Writers
  -- of tables with hidden columns have the table: where one does now, the next migrate does it.
  if exists (select from pg_class c where c.oid = 'rowcast.hidden_column'::regclass and c.relreplident <> 'f') then
    begin
      lock table rowcast.hidden_column in access exclusive mode nowait;
      alter table rowcast.hidden_column replica identity full;
    exception when lock_not_available then
      null;
    end;
  end if;
end $do$;
