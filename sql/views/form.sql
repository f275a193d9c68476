-- rowcast.form: what the rows of a watched table look like, as items that are compared with those of before.
--   c:7:name:type    a column that may leave, by its number
--   e:5001:label     a value of an enum that such a column may have, by the oid that it keeps when it is renamed
--   f:7              rows from before the column was added have a value that was given then
--   s:7:1234         the transaction that last stated the column
--   n:16400          the file in which the rows lie; of a partitioned table, one item a partition
-- CLUSTER moves the rows to another file, SET NOT NULL states the column anew; ALTER COLUMN TYPE .. USING does both.
create view rowcast.form as
with recursive live as (
  select c.id, c.target::oid as relid from rowcast.channel c
   where c.target = c.target_oid and c.origin = (select rowcast.origin()) and exists (select from pg_class t where t.oid = c.target)
), part(id, relid) as (
  select id, relid from live union all select p.id, i.inhrelid from part p join pg_inherits i on i.inhparent = p.relid join pg_class k on k.oid = p.relid and k.relkind = 'p'
), shown as (
  select s.channel as id, s.attnum, s.name, s.type, a.atttypmod, a.atthasmissing, a.xmin::text as stated
    from live l join rowcast.shown_column s on s.channel = l.id join pg_attribute a on a.attrelid = l.relid and a.attnum = s.attnum
), item(id, text) as (
  select id, format('c:%s:%s:%s,%s', attnum, name, type, atttypmod) from shown
  union select id, format('f:%s', attnum) from shown where atthasmissing
  union select id, format('s:%s:%s', attnum, stated) from shown
  union select s.id, format('e:%s:%s', e.oid, e.enumlabel)
    from shown s join pg_type t on t.oid = s.type left join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    join pg_enum e on e.enumtypid = case when b.typtype = 'e' then b.oid else b.typelem end
  union select p.id, format('n:%s', k.relfilenode) from part p join pg_class k on k.oid = p.relid
)
select id as channel, array_agg(text order by text) as form from item group by id;
comment on view rowcast.form is 'what the rows of watched tables look like';
