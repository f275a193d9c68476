-- rowcast.unwatched: tables whose changes nobody hears, and the call that would change it.
create view rowcast.unwatched as
select c.oid::regclass as "table",
       case
         when p.inhparent is not null then 'inherits from ' || p.inhparent::regclass || ', whose triggers do not fire for it'
         else 'not watched'
       end as reason,
       case
         -- with the arguments of the table that had the name
         when exists (select from rowcast.channel g where g.given_schema = n.nspname and g.given_name = c.relname) then
           (select format('select rowcast.watch(%L, channel => %L, user_rule => %L, notification => %L, exclude => %L, singular => %L, columns => %L);',
                          format('%I.%I', n.nspname, c.relname), g.name, g.given_rule, g.notification, g.given_exclude, g.singular, g.given_columns)
              from rowcast.channel g where g.given_schema = n.nspname and g.given_name = c.relname order by g.id limit 1)
         when c.relname ~ '[[:space:][:cntrl:]/?#%]' or c.relname = 'user' then
           -- a channel's name stands in a path
           format('select rowcast.watch(%L, channel => %L);', c.oid::regclass::text,
                  case c.relname::text when 'user' then 'users' else regexp_replace(replace(c.relname, '_', '-'), '[[:space:][:cntrl:]/?#%]+', '-', 'g') end)
         else format('select rowcast.watch(%L);', c.oid::regclass::text)
       end as remedy
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join lateral (select i.inhparent from pg_inherits i where i.inhrelid = c.oid limit 1) p on true
 where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
   and n.nspname not in ('pg_catalog', 'information_schema', 'rowcast') and not starts_with(n.nspname, 'pg_toast')
   and not exists (select from rowcast.channel w where w.target = c.oid);
comment on view rowcast.unwatched is 'tables whose changes nobody hears';
