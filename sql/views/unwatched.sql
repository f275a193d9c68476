-- rowcast.unwatched: tables whose changes nobody hears, and the call that would change it.
create view rowcast.unwatched as
select c.oid::regclass as "table",
       case
         when p.inhparent is not null
           then 'inherits from ' || p.inhparent::regclass || ', whose triggers do not fire for it'
         when c.relname = any (s.except_tables) then 'excepted from the watching of schema ' || s.name
         when exists (select from rowcast.stated_table o
                       where o.is_out and (o.number = c.oid or (o.schema, o.name) = (n.nspname, c.relname)))
           then 'taken out by rowcast.unwatch'
         when exists (select from rowcast.newcomer w where w."table" = c.oid)
           then 'new: a relay is about to watch it; where it cannot, it logs newcomer_refused'
         when s.name is not null
           then 'for you to decide: it is not new to schema ' || s.name || ', or its owner has no watched table there'
         else 'not watched'
       end as reason,
       case
         -- with the arguments of the table that had the name
         when exists (select from rowcast.channel g where g.given_schema = n.nspname and g.given_name = c.relname) then
           (select rowcast.watch_call(
             format('%I.%I', n.nspname, c.relname),
             g.name,
             g.given_rule,
             g.notification,
             g.given_exclude,
             g.singular,
             g.given_columns,
             g.replicated)
              from rowcast.channel g
             where g.given_schema = n.nspname and g.given_name = c.relname
             order by g.id
             limit 1)
         -- its own name fits no path, or is another table's channel
         when f.channel <> coalesce(s.prefix, '') || replace(lower(c.relname), '_', '-') or s.prefix <> '' then
           format('select rowcast.watch(%L, channel => %L);', c.oid::regclass::text, f.channel)
         else format('select rowcast.watch(%L);', c.oid::regclass::text)
       end as remedy
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join rowcast.watched_schema s on s.name = n.nspname
 cross join lateral (select rowcast.free_channel(c.oid, coalesce(s.prefix, '')) as channel) f
  left join lateral (select i.inhparent from pg_inherits i where i.inhrelid = c.oid limit 1) p on true
 where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
   and n.nspname not in ('pg_catalog', 'information_schema', 'rowcast') and not starts_with(n.nspname, 'pg_toast')
   and not exists (select from rowcast.neighbour o where o.number = n.oid)
   and not exists (select from rowcast.channel w where w.target = c.oid);
comment on view rowcast.unwatched is 'tables whose changes nobody hears';
