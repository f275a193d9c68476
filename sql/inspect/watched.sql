-- watched.sql: which tables are captured, what has drifted, and which SQL mends it?
--   psql -d DATABASE -f sql/inspect/watched.sql
--
-- Rights: member of rowcast_relay. To run the SQL in "mend": the owner of schema rowcast, who can also alter the table.
--
-- How to read it: state "live": triggers are there and enabled. "off": at least one trigger is missing or disabled,
-- so some or all changes of the table are NOT captured; what is missed while it is off is gone. "publish only": a
-- channel without a table.
-- drift says what is wrong; null means nothing is. mend is the statement for it. It repeats every argument of the
-- last rowcast.watch on purpose: watch sets the rule, the notification and the excluded columns to what the call
-- says, so a bare rowcast.watch('t') would give up an exclusion.
-- Where the column of a rule or of a notification is gone, mend shows that argument as it was or as null: put the
-- column's new name in before you run it.
-- A trigger that is enabled still does not fire in a session with session_replication_role = replica.

\echo 'Channels and drift'
select w.channel, w."table", w.state, w.drift,
       case
         when w.drift is null then null
         when not exists (select from pg_class c where c.oid = w."table") then format('select rowcast.unwatch(%L);', w."table"::oid)
         when w.drift like 'triggers disabled%' then
           (select string_agg(format('alter table %s enable trigger %I;', t.tgrelid::regclass, t.tgname), ' ' order by t.tgname, t.tgrelid)
              from pg_trigger t
             where (t.tgrelid = w."table" or t.tgrelid in (select p.relid from pg_partition_tree(w."table") p))
               and t.tgname ~ '^!!?rowcast(_users|_u|_t)?(_[0-9]+)?$' and t.tgenabled not in ('O', 'A'))
         else format('select rowcast.watch(%L, channel => %L, user_rule => %L, notification => %L, exclude => %L, singular => %L);',
                     w."table", w.channel, w.user_rule, w.notification, w.exclude, w.singular)
       end as mend
  from rowcast.watched w
 order by w.drift is null, w.channel;

\echo 'What each channel tells whom'
select channel, user_rule, notification, singular, exclude as excluded, since
  from rowcast.watched
 order by channel;

\echo 'Tables that nobody hears'
select "table", reason, remedy from rowcast.unwatched order by 1;
