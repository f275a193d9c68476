-- rowcast.form: what the rows of a watched table look like, as items that are compared with those of before.
--   c:7:name:type    a column that may leave, by its number
--   e:5001:label     a value of an enum that such a column may have, by the oid that it keeps when it is renamed
--   a:5002:1:name:type  a field of a composite type that such a column may have, by the type's own relation
--   f:7              rows from before the column was added have a value that was given then
--   s:7:1234         the transaction that last stated the column
--   n:16400          the file in which the rows lie; of a partitioned table, one item a partition
--   p:16390:790      a partition, the partitioned table itself, and the transaction by which it is one
--   p:16390:790:joined  the same of one that came by ATTACH, maybe with rows
-- CLUSTER moves the rows to another file, SET NOT NULL states the column anew; ALTER COLUMN TYPE .. USING does both.
--
-- One small array a channel, and no set of all of them: nothing is sorted or kept in a temporary file.
create view rowcast.form as
select c.id as channel, array(
    select i.item from pg_attribute a
      join rowcast.shown_column s on s.channel = c.id and s.attnum = a.attnum
     cross join unnest(array[
       format('c:%s:%s:%s,%s', a.attnum, a.attname, a.atttypid, a.atttypmod),
       format('s:%s:%s', a.attnum, a.xmin),
                             case when a.atthasmissing then format('f:%s', a.attnum) end]) i(item)
     where a.attrelid = c.target and i.item is not null
    union all
    -- also inside of domains, arrays and composite types
    select distinct i.item
      from rowcast.shown_column s
     cross join lateral rowcast.types_within(s.type) o(oid)
      join pg_type t on t.oid = o.oid
      left join pg_enum e on e.enumtypid = t.oid
      left join pg_attribute f on f.attrelid = t.typrelid and t.typrelid <> 0 and f.attnum > 0 and not f.attisdropped
     cross join unnest(array[
       case when e.oid is not null then format('e:%s:%s', e.oid, e.enumlabel) end,
       case when f.attnum is not null
         then format('a:%s:%s:%s:%s,%s', t.typrelid, f.attnum, f.attname, f.atttypid, f.atttypmod) end]) i(item)
     where s.channel = c.id and s.type >= 16384 and i.item is not null
    union all
    select i.item from (
      with recursive part(relid) as (
        select c.target::oid
         union select h.inhrelid
          from part p
          join pg_inherits h on h.inhparent = p.relid and not h.inhdetachpending
         where t.relkind = 'p')
      select relid from part) part
      join pg_class k on k.oid = part.relid
      left join pg_inherits h on h.inhrelid = part.relid and part.relid <> c.target
     cross join unnest(array[
       format('n:%s', k.relfilenode),
       case when t.relkind = 'p' then format('p:%s:%s', part.relid, h.xmin)
       -- ATTACH writes each column of a partition anew. CREATE TABLE .. PARTITION OF leaves them as they were made, by
       -- the same command as its system columns
       || case when h.inhrelid is null or exists (
            select from pg_attribute a
              join pg_attribute s on s.attrelid = a.attrelid and s.attname = 'tableoid' and s.attnum < 0
             where a.attrelid = part.relid and a.attnum > 0 and a.xmin = s.xmin and a.cmin = s.cmin) then ''
               else ':joined' end end]) i(item)
     where i.item is not null
    order by 1) as form
  from rowcast.channel c join pg_class t on t.oid = c.target
 where c.target = c.target_oid and c.origin = (select rowcast.origin());
comment on view rowcast.form is 'what the rows of watched tables look like';
