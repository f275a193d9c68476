-- rowcast.newcomer: new tables of schemas whose future tables are watched. A relay watches them within ten seconds,
-- each in a transaction of its own. New is what nobody has seen: not a table that was renamed, moved in, or is or was
-- a partition, nor one that takes the name of a watched one, which may have had columns that were excluded. Nor is one
-- of an owner whom the DBA does not trust with any table of the schema: the owner of a watched table can read what the
-- relay can.
create view rowcast.newcomer as
select c.oid::regclass as "table"
  from rowcast.watched_schema s
  join pg_namespace n on n.oid = s.number and n.nspname = s.name
 cross join lateral unnest(rowcast.unwatched_of(s.name, s.except_tables)) t(target)
  join pg_class c on c.oid = t.target
 where not exists (select from rowcast.seen_table k where k.number = c.oid)
   and not exists (select from rowcast.stated_table g where (g.schema, g.name) = (n.nspname, c.relname))
   and not exists (select from pg_inherits i where i.inhrelid = c.oid)
   and (pg_has_role(c.relowner, n.nspowner, 'usage')
        or exists (select from rowcast.channel w
                     join pg_class o on o.oid = w.target
                    where o.relnamespace = n.oid and o.relowner = c.relowner));
comment on view rowcast.newcomer is 'tables that a relay is about to watch';
