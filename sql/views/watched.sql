-- rowcast.watched: one row a channel, with the state of its triggers and what has drifted since watch was called.
--   replicated  what logical replication writes is captured as well
--   briefly     its changes are kept for brief_retention: rowcast.keep_briefly
--   also_on     channels of tables that it is a partition of: they are told each of its changes as well
-- Partitions are found in pg_inherits: pg_partition_tree opens each, and would wait for a session that has locked one.
create view rowcast.watched as
with trigger_state as (
  select c.id, ours.names, tree.parts,
         array(select n.name || own.suffix
                 from unnest(array['!rowcast', '!rowcast_t']
                             || case when c.user_query is not null then array['!!rowcast_users']
                                     else '{}'::text[] end) n(name)
                where not exists (select from pg_trigger t
                                   where t.tgrelid = c.target and t.tgname = n.name || own.suffix))
         -- of an earlier version, which had a trigger of its own for updates
         || case when exists (select from pg_trigger t
                               where t.tgrelid = c.target
                                 and t.tgname = '!rowcast' || own.suffix
                                 and t.tgtype::int & 16 = 0)
                  and not exists (select from pg_trigger t
                                   where t.tgrelid = c.target and t.tgname = '!rowcast_u' || own.suffix)
                 then array['!rowcast_u' || own.suffix] else '{}'::text[] end as missing,
         array(select t.tgname || case when t.tgrelid = c.target then '' else ' on ' || t.tgrelid::regclass end
                 from pg_trigger t
                where (t.tgrelid = c.target or t.tgrelid = any (tree.parts))
                  and t.tgname = any (ours.names)
                  and t.tgenabled not in ('O', 'A')
                order by 1) as disabled,
         -- those that do not fire for an apply worker
         array(select t.tgname || case when t.tgrelid = c.target then '' else ' on ' || t.tgrelid::regclass end
                 from pg_trigger t
                where (t.tgrelid = c.target or t.tgrelid = any (tree.parts))
                  and t.tgname = any (ours.names)
                  and t.tgenabled = 'O'
                order by 1) as local,
         (select string_agg(distinct quote_ident(u.subname), ', ')
            from pg_subscription_rel r
            join pg_subscription u on u.oid = r.srsubid
           where r.srrelid = c.target or r.srrelid = any (tree.parts)) as subscription
    from rowcast.channel c
   cross join lateral (
     select case when exists (select from pg_class where oid = c.target and relkind = 'p')
                 then '_' || c.target::oid else '' end
   ) own(suffix)
   cross join lateral (
     select array['!rowcast' || own.suffix,
                  '!rowcast_u' || own.suffix,
                  '!rowcast_t' || own.suffix,
                  '!!rowcast_users' || own.suffix]
   ) ours(names)
   cross join lateral (
     select array(
       with recursive part(relid) as (
         select c.target::oid
         union
         select i.inhrelid from part join pg_inherits i on i.inhparent = part.relid and own.suffix <> ''
       )
       select relid from part)
   ) tree(parts)
   where c.target is not null
), muted(who, remedy) as (
  -- set for a bulk load, and forgotten
  select string_agg(
    coalesce('role ' || r.rolname, 'everybody') || case when d.datname is not null then ' in this database' else '' end,
    ', '
    order by r.rolname),
         string_agg(case when r.rolname is null and d.datname is null then 'alter role all reset rowcast.mute;'
                         when r.rolname is null then format('alter database %I reset rowcast.mute;', d.datname)
                         when d.datname is null then format('alter role %I reset rowcast.mute;', r.rolname)
                         else format('alter role %I in database %I reset rowcast.mute;', r.rolname, d.datname) end, ' '
                           order by r.rolname)
    from pg_db_role_setting s
    left join pg_roles r on r.oid = s.setrole
    left join pg_database d on d.oid = s.setdatabase
   where (s.setdatabase = 0 or d.datname = current_database())
     and exists (select from unnest(s.setconfig) c where c = 'rowcast.mute=on')
), watched as (
  select c.target as "table", c.name as channel, c.singular, c.replicated, c.briefly, s.names, s.parts,
         b.roles as barred,
         array(
           with recursive above(relid) as (
             select h.inhparent from pg_inherits h where h.inhrelid = c.target
             union
             select h.inhparent from above a join pg_inherits h on h.inhrelid = a.relid
           )
           select o.name
             from above a
             join rowcast.channel o on o.target = a.relid
             join pg_class k on k.oid = a.relid and k.relkind = 'p'
            order by 1) as also_on,
         case when g.is_given then c.given_rule
           else coalesce(
             c.user_query,
             (select a.attname::text
               from pg_attribute a
               where a.attrelid = c.target and a.attnum = c.user_column and not a.attisdropped)) end as user_rule,
         c.notification,
         case when g.is_given then c.given_exclude
              else h.names end as exclude,
         case when g.is_given then c.given_columns
              when c.allowed is not null
                then array(select a.attname::text
                  from pg_attribute a
                  where a.attrelid = c.target and a.attnum = any (c.allowed) and not a.attisdropped
                  order by a.attnum) end as columns,
         c.since,
         case
           when c.target is null then 'publish only'
           when not exists (select from pg_class where oid = c.target) then 'off'
           when (c.target <> c.target_oid or c.origin <> (select rowcast.origin())) then 'off'
           when exists (select from rowcast.displaced d where d.channel = c.id) then 'off'
           when cardinality(s.missing) > 0 or cardinality(s.disabled) > 0 then 'off'
           else 'live'
         end as state,
         case
           when c.target is null then null
           when not exists (select from pg_class where oid = c.target)
             and not exists (select from rowcast.displaced d where d.channel = c.id)
             then format(
               'the table %s is gone: select rowcast.unwatch(''%s'');',
               coalesce(format('%I.%I', c.given_schema, c.given_name), 'of channel ' || c.name),
               c.target::oid)
           when (c.target <> c.target_oid or c.origin <> (select rowcast.origin()))
             and exists (select from pg_class where oid = c.target)
             then 'the table comes from a dump, and its columns have other numbers: nothing of it is '
                  'told until rowcast.watch is called again, with all its arguments'
           when exists (select from rowcast.displaced d where d.channel = c.id)
             then format(
               'the channel was given for the table %I.%I, which is another table now: nothing of that one is '
               'told until rowcast.watch is called for it, with all its arguments',
               c.given_schema,
               c.given_name)
           when cardinality(s.missing) > 0
             then 'triggers missing: '
               || array_to_string(s.missing, ', ')
               || '; call rowcast.watch again, with all its arguments'
           when cardinality(s.disabled) > 0
             then 'triggers disabled: '
               || array_to_string(s.disabled, ', ')
               || '; alter table '
               || c.target::text
               || ' enable trigger ..'
           when c.replicated and cardinality(s.local) > 0
             then 'triggers do not fire for what logical replication writes: ' || array_to_string(s.local, ', ')
           when cardinality(s.local) > 0 and s.subscription is not null
             then 'subscription ' || s.subscription || ' writes to it, and nothing of that is captured'
           -- the same before the relay has noted such a column by its number and afterwards: rowcast.keep_excluded
           when not h.are_noted
             or cardinality(h.names) > (select count(distinct name) from unnest(c.given_exclude) name)
             then 'another column has, or had, the name of an excluded one: '
               || array_to_string(h.names, ', ')
               || '; none of them is told; call rowcast.watch again, with all its arguments'
           when exists (select from pg_attribute a
             where a.attrelid = c.target and a.attnum = any (c.exclude) and a.attisdropped)
             then 'an excluded column is gone; if another one took its place, exclude that: call rowcast.watch again, '
                  'with all its arguments'
           when exists (select from pg_attribute a
             where a.attrelid = c.target and a.attnum = any (c.allowed) and a.attisdropped)
             then 'a column that may leave is gone; call rowcast.watch again, with all its arguments'
           when c.user_column is not null
             and not exists (select from pg_attribute a
               where a.attrelid = c.target and a.attnum = c.user_column and not a.attisdropped)
             then 'the column of the user rule is gone; call rowcast.watch again, with all its arguments'
           when exists (select from jsonb_each_text(coalesce(c.notification, '{}')) k
                         where not exists (select from pg_attribute a
                           where a.attrelid = c.target and a.attname = k.value and not a.attisdropped))
             then 'a column of the notification is gone; call rowcast.watch again, with all its arguments'
           when exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_class k on k.oid = t.tgrelid
                         where t.tgrelid = c.target
                           and t.tgparentid = 0
                           and t.tgname ~ '^!!rowcast_users(_[0-9]+)?$'
                           and p.proowner <> k.relowner)
             then 'the table has another owner than its user rule, which may not read what it '
                  'needs; call rowcast.watch again, with all its arguments'
           when exists (select from rowcast.policy p where p.channel = c.name and rowcast.drifted_names(p) <> '{}')
             then 'a policy names a column that is another one now, and hides it: '
                  'select * from rowcast.exposure; call rowcast.allow again'
           -- none of Postgres' own casts to json is a function
           when exists (select from pg_cast f where f.casttarget = 'json'::regtype and f.castmethod = 'f')
             and exists (select from pg_trigger t
                          where t.tgrelid = c.target
                            and t.tgname = s.names[1]
                            and split_part(encode(t.tgargs, 'escape'), '\000', 3) <> 'c')
             and rowcast.casts_to_json(c.target)
             then 'a column has a cast to JSON that may refuse a value, which fails the write; call rowcast.watch '
                  'again, with all its arguments'
           when has_any_column_privilege('rowcast_relay', c.target::oid, 'select') and exists (
                  select from rowcast.shown_column s
                    where s.channel = c.id
                      and not has_column_privilege('rowcast_relay', c.target::oid, s.attnum, 'select'))
             then 'snapshots are not possible: the relay may not read a column that was added'
           when has_any_column_privilege('rowcast_relay', c.target::oid, 'select')
             and not has_schema_privilege('rowcast_relay', k.relnamespace, 'usage')
             then 'snapshots are not possible: the relay may not use the schema of the table'
           when b.roles is not null
             then 'snapshots are not possible: the table has row security, which would hide rows from the relay'
           when m.who is not null then 'changes are not captured of ' || m.who || ': rowcast.mute is on in its settings'
         end as drift
    from rowcast.channel c left join trigger_state s on s.id = c.id left join pg_class k on k.oid = c.target
   cross join muted m
   -- the roles of connected relays that row security is for
   cross join lateral (
     select string_agg(distinct quote_ident(r.rolname), ', ') as roles
       from pg_stat_activity a join pg_roles r on r.oid = a.usesysid
      where k.relrowsecurity
        and a.datname = current_database()
        and a.application_name ~ '^rowcast (listen|read|query|replay|publish) [0-9a-f]{8}$'
        and pg_has_role(r.oid, 'rowcast_relay', 'usage')
        and not r.rolsuper
        and not r.rolbypassrls
        and (k.relforcerowsecurity or not pg_has_role(r.oid, k.relowner, 'usage'))) b
   cross join lateral (select c.target <> c.target_oid
     or c.origin <> (select rowcast.origin())
     or not exists (select from pg_class t where t.oid = c.target) as is_given) g
   -- the columns that were excluded, and whichever have, or had, their names
   cross join lateral (
     select coalesce(array_agg(a.attname::text order by a.attnum), '{}') as names,
       coalesce(bool_and(a.attnum = any (c.exclude)), true) as are_noted
       from pg_attribute a
      where a.attrelid = c.target and a.attnum > 0 and not a.attisdropped
        and (a.attnum = any (c.exclude) or a.attname::text = any (c.given_exclude || c.hidden_names)
             or exists (select from rowcast.hidden_column n where n.channel = c.id and n.attnum = a.attnum))
   ) h
)
select w."table", w.channel, w.singular, w.user_rule, w.notification, w.exclude, w.columns, w.since, w.state, w.drift,
       -- every argument of the last call: watch sets the rule, the notification and the excluded columns to what it is
       -- told
       case
         when w.drift is null then null
         when not exists (select from pg_class c where c.oid = w."table")
           and w.drift not like 'the channel was given for%'
           then format('select rowcast.unwatch(%L);', w."table"::oid)
         when w.drift like 'a policy names a column%' then
           -- the calls stand there: what a policy is to name now, nobody else knows
           format(
             'select role, "column", drift from rowcast.exposure where channel = %L and drift is not null;',
             w.channel)
         when w.drift like 'triggers disabled%' or w.drift like 'triggers do not fire%' then
           (select string_agg(
             format(
               'alter table %s enable %strigger %I;',
               t.tgrelid::regclass,
               case when w.replicated then 'always ' else '' end,
               t.tgname),
             ' '
             order by t.tgname, t.tgrelid)
              from pg_trigger t
             where (t.tgrelid = w."table" or t.tgrelid = any (w.parts))
               and t.tgname = any (w.names)
               and (t.tgenabled not in ('O', 'A') or (w.replicated and t.tgenabled = 'O')))
         when w.drift like 'changes are not captured of%' then (select remedy from muted)
         when w.drift like 'snapshots are not possible: the relay may not use%' then
           (select format('grant usage on schema %s to rowcast_relay;', c.relnamespace::regnamespace)
              from pg_class c where c.oid = w."table")
         when w.drift like 'snapshots are not possible: the table has row security%' then
           (select string_agg(format('alter role %s bypassrls;', role), ' ')
              from unnest(string_to_array(w.barred, ', ')) role)
         when w.drift like 'snapshots are not possible%' then
           (select format(
             'grant select (%s) on %s to rowcast_relay;',
             string_agg(quote_ident(s.name), ', ' order by s.attnum),
             w."table")
              from rowcast.shown_column s join rowcast.channel c on c.id = s.channel where c.name = w.channel)
         when w.drift like 'the channel was given for%' then
           (select rowcast.watch_call(
             format('%I.%I', c.given_schema, c.given_name),
             w.channel,
             w.user_rule,
             w.notification,
             w.exclude,
             w.singular,
             w.columns,
             w.replicated)
              from rowcast.channel c where c.name = w.channel)
         else rowcast.watch_call(
           w."table"::text,
           w.channel,
           w.user_rule,
           w.notification,
           w.exclude,
           w.singular,
           w.columns,
           w.replicated
           or w.drift like 'subscription%')
       end as remedy,
       w.replicated, w.also_on, w.briefly
  from watched w;
comment on view rowcast.watched is
  'channels: table, user rule, excluded columns, state of the triggers, drift and its remedy';
