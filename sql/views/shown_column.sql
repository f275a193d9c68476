-- rowcast.shown_column: the columns of watched tables that may leave: not excluded, neither by the number that the
-- column had when rowcast.watch was called nor by a name that it has or had, and allowed where columns were given. A
-- writer may have seen such a name before a relay did.
create view rowcast.shown_column as
select c.id as channel, a.attnum, a.attname::text as name, a.atttypid as type
  from rowcast.channel c
  join pg_attribute a on a.attrelid = c.target and a.attnum > 0 and not a.attisdropped
 where a.attnum <> all (c.exclude) and a.attname::text <> all (c.given_exclude || c.hidden_names)
   -- a virtual generated column is computed when it is read: a trigger sees null
   and a.attgenerated <> 'v'
   and (c.allowed is null or a.attnum = any (c.allowed))
   and not exists (select from rowcast.hidden_column h where h.channel = c.id and h.attnum = a.attnum);
comment on view rowcast.shown_column is 'columns of watched tables that may leave';
