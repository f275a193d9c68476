-- rowcast.watched: one row a channel, with the state of its triggers and what has drifted since watch was called.
-- Partitions are found in pg_inherits: pg_partition_tree opens each, and would wait for whoever has locked one.
create view rowcast.watched as
with trigger_state as (
  select c.id,
         array(select n.name || own.suffix from unnest(array['!rowcast', '!rowcast_t'] || case when c.user_query is not null then array['!!rowcast_users'] else '{}'::text[] end) n(name)
                where not exists (select from pg_trigger t where t.tgrelid = c.target and t.tgname = n.name || own.suffix))
         -- of an earlier version, which had a trigger of its own for updates
         || case when exists (select from pg_trigger t where t.tgrelid = c.target and t.tgname = '!rowcast' || own.suffix and t.tgtype::int & 16 = 0)
                  and not exists (select from pg_trigger t where t.tgrelid = c.target and t.tgname = '!rowcast_u' || own.suffix)
                 then array['!rowcast_u' || own.suffix] else '{}'::text[] end as missing,
         array(select t.tgname || case when t.tgrelid = c.target then '' else ' on ' || t.tgrelid::regclass end from pg_trigger t
                where (t.tgrelid = c.target or t.tgrelid in (with recursive part(relid) as (select c.target::oid union select i.inhrelid from part join pg_inherits i on i.inhparent = part.relid) select relid from part))
                  and t.tgname in ('!rowcast' || own.suffix, '!rowcast_u' || own.suffix, '!rowcast_t' || own.suffix, '!!rowcast_users' || own.suffix)
                  and t.tgenabled not in ('O', 'A') order by 1) as disabled
    from rowcast.channel c
   cross join lateral (select case when exists (select from pg_class where oid = c.target and relkind = 'p') then '_' || c.target::oid else '' end) own(suffix)
   where c.target is not null
), muted(who, remedy) as (
  -- set for a bulk load, and forgotten
  select string_agg(coalesce('role ' || r.rolname, 'everybody') || case when d.datname is not null then ' in this database' else '' end, ', ' order by r.rolname),
         string_agg(case when r.rolname is null then format('alter database %I reset rowcast.mute;', d.datname)
                         when d.datname is null then format('alter role %I reset rowcast.mute;', r.rolname)
                         else format('alter role %I in database %I reset rowcast.mute;', r.rolname, d.datname) end, ' ' order by r.rolname)
    from pg_db_role_setting s
    left join pg_roles r on r.oid = s.setrole
    left join pg_database d on d.oid = s.setdatabase
   where (s.setdatabase = 0 or d.datname = current_database()) and exists (select from unnest(s.setconfig) c where c = 'rowcast.mute=on')
), watched as (
  select c.target as "table", c.name as channel, c.singular,
         case when (c.target <> c.target_oid or c.origin <> (select rowcast.origin())) then c.given_rule else coalesce(c.user_query, (select a.attname::text from pg_attribute a where a.attrelid = c.target and a.attnum = c.user_column and not a.attisdropped)) end as user_rule,
         c.notification,
         -- the columns that were excluded, and whichever have their names now
         case when (c.target <> c.target_oid or c.origin <> (select rowcast.origin())) then c.given_exclude
              else array(select a.attname::text from pg_attribute a where a.attrelid = c.target and (a.attnum = any (c.exclude) or a.attname = any (c.given_exclude)) and a.attnum > 0 and not a.attisdropped order by a.attnum) end as exclude,
         case when (c.target <> c.target_oid or c.origin <> (select rowcast.origin())) then c.given_columns
              when c.allowed is not null then array(select a.attname::text from pg_attribute a where a.attrelid = c.target and a.attnum = any (c.allowed) and not a.attisdropped order by a.attnum) end as columns,
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
           when not exists (select from pg_class where oid = c.target) then format('the table %s is gone: select rowcast.unwatch(''%s'');', coalesce(format('%I.%I', c.given_schema, c.given_name), 'of channel ' || c.name), c.target::oid)
           when (c.target <> c.target_oid or c.origin <> (select rowcast.origin())) then 'the table comes from a dump, and its columns have other numbers: nothing of it is told until rowcast.watch is called again, with all its arguments'
           when exists (select from rowcast.displaced d where d.channel = c.id)
             then format('the channel was given for the table %I.%I, which is another table now: nothing of that one is told until rowcast.watch is called for it, with all its arguments', c.given_schema, c.given_name)
           when cardinality(s.missing) > 0 then 'triggers missing: ' || array_to_string(s.missing, ', ') || '; call rowcast.watch again, with all its arguments'
           when cardinality(s.disabled) > 0 then 'triggers disabled: ' || array_to_string(s.disabled, ', ') || '; alter table ' || c.target::text || ' enable trigger ..'
           when exists (select from pg_attribute a where a.attrelid = c.target and a.attname = any (c.given_exclude) and a.attnum > 0 and not a.attisdropped and a.attnum <> all (c.exclude))
             then 'another column has the name of an excluded one: ' || (select string_agg(a.attname, ', ' order by a.attnum) from pg_attribute a where a.attrelid = c.target and a.attname = any (c.given_exclude) and a.attnum > 0 and not a.attisdropped and a.attnum <> all (c.exclude))
               || '; neither is told; call rowcast.watch again, with all its arguments'
           -- see rowcast.keep_excluded
           when (select count(*) from pg_attribute a where a.attrelid = c.target and a.attnum = any (c.exclude) and not a.attisdropped) > (select count(distinct name) from unnest(c.given_exclude) name)
             then 'another column has, or had, the name of an excluded one: ' || (select string_agg(a.attname, ', ' order by a.attnum) from pg_attribute a where a.attrelid = c.target and a.attnum = any (c.exclude) and not a.attisdropped)
               || '; none of them is told; call rowcast.watch again, with all its arguments'
           when exists (select from pg_attribute a where a.attrelid = c.target and a.attnum = any (c.exclude) and a.attisdropped)
             then 'an excluded column is gone; if another one took its place, exclude that: call rowcast.watch again, with all its arguments'
           when exists (select from pg_attribute a where a.attrelid = c.target and a.attnum = any (c.allowed) and a.attisdropped)
             then 'a column that may leave is gone; call rowcast.watch again, with all its arguments'
           when c.user_column is not null and not exists (select from pg_attribute a where a.attrelid = c.target and a.attnum = c.user_column and not a.attisdropped)
             then 'the column of the user rule is gone; call rowcast.watch again, with all its arguments'
           when exists (select from jsonb_each_text(coalesce(c.notification, '{}')) k
                         where not exists (select from pg_attribute a where a.attrelid = c.target and a.attname = k.value and not a.attisdropped))
             then 'a column of the notification is gone; call rowcast.watch again, with all its arguments'
           when exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_class k on k.oid = t.tgrelid
                         where t.tgrelid = c.target and t.tgparentid = 0 and t.tgname ~ '^!!rowcast_users' and p.proowner <> k.relowner)
             then 'the table has another owner than its user rule, which may not read what it needs; call rowcast.watch again, with all its arguments'
           when exists (select from rowcast.policy p where p.channel = c.name and rowcast.drifted_names(p) <> '{}')
             then 'a policy names a column that is another one now, and hides it: select * from rowcast.exposure; call rowcast.allow again'
           when has_any_column_privilege('rowcast_relay', c.target::oid, 'select') and exists (
                  select from rowcast.shown_column s where s.channel = c.id and not has_column_privilege('rowcast_relay', c.target::oid, s.attnum, 'select'))
             then 'snapshots are not possible: the relay may not read a column that was added'
           when m.who is not null then 'changes are not captured of ' || m.who || ': rowcast.mute is on in its settings'
         end as drift
    from rowcast.channel c left join trigger_state s on s.id = c.id cross join muted m
)
select w.*,
       -- every argument of the last call: watch sets the rule, the notification and the excluded columns to what it is told
       case
         when w.drift is null then null
         when not exists (select from pg_class c where c.oid = w."table") then format('select rowcast.unwatch(%L);', w."table"::oid)
         when w.drift like 'triggers disabled%' then
           (select string_agg(format('alter table %s enable trigger %I;', t.tgrelid::regclass, t.tgname), ' ' order by t.tgname, t.tgrelid)
              from pg_trigger t
             where (t.tgrelid = w."table" or t.tgrelid in (with recursive part(relid) as (select w."table"::oid union select i.inhrelid from part join pg_inherits i on i.inhparent = part.relid) select relid from part))
               and t.tgname ~ '^!!?rowcast(_users|_u|_t)?(_[0-9]+)?$' and t.tgenabled not in ('O', 'A'))
         when w.drift like 'changes are not captured of%' then (select remedy from muted)
         when w.drift like 'snapshots are not possible%' then
           (select format('grant select (%s) on %s to rowcast_relay;', string_agg(quote_ident(s.name), ', ' order by s.attnum), w."table")
              from rowcast.shown_column s join rowcast.channel c on c.id = s.channel where c.name = w.channel)
         when w.drift like 'the channel was given for%' then
           (select format('select rowcast.watch(%L, channel => %L, user_rule => %L, notification => %L, exclude => %L, singular => %L, columns => %L);',
                          format('%I.%I', c.given_schema, c.given_name), w.channel, w.user_rule, w.notification, w.exclude, w.singular, w.columns)
              from rowcast.channel c where c.name = w.channel)
         else format('select rowcast.watch(%L, channel => %L, user_rule => %L, notification => %L, exclude => %L, singular => %L, columns => %L);',
                     w."table", w.channel, w.user_rule, w.notification, w.exclude, w.singular, w.columns)
       end as remedy
  from watched w;
comment on view rowcast.watched is 'channels: table, user rule, excluded columns, state of the triggers, drift and its remedy';
