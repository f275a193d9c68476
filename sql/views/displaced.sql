-- rowcast.displaced: channels whose table has given its name to another one, as online schema changes do. What is
-- written under the name that the channel was given for is not captured.
create view rowcast.displaced as
select c.id as channel
  from rowcast.channel c
  join pg_namespace n on n.nspname = c.given_schema
  join pg_class o on o.relnamespace = n.oid and o.relname = c.given_name and o.relkind in ('r', 'p')
 where o.oid <> c.target;
comment on view rowcast.displaced is 'channels whose table has given its name to another one';
