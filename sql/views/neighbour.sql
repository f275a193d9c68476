-- rowcast.neighbour: other installations of rowcast in this database, by the tables that each has. What is in their
-- schemas is not the application's: it is not watched, and not reported as unwatched.
create view rowcast.neighbour as
select n.oid as number, n.nspname::text as name
  from pg_namespace n
 where n.nspname <> 'rowcast'
   and (select count(*) from pg_class c
         where c.relnamespace = n.oid and c.relkind = 'r' and c.relname in ('installation', 'incarnation', 'outbox_0'))
           = 3;
comment on view rowcast.neighbour is 'other installations of rowcast in this database';
