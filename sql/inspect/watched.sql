-- watched.sql: which tables are captured, what has drifted, and which SQL mends it?
--   psql -d DATABASE -f sql/inspect/watched.sql
--
-- Rights: member of rowcast_relay. To run the SQL in "remedy": the owner of schema rowcast, who can also alter the
-- table.
--
-- How to read it: state "live": triggers are there and enabled. "off": at least one trigger is missing or disabled,
-- so some or all changes of the table are NOT captured; what is missed while it is off is gone. "publish only": a
-- channel without a table.
-- drift says what is wrong; null means nothing is. remedy is the statement for it. It repeats every argument of the
-- last rowcast.watch on purpose: watch sets the rule, the notification and the excluded columns to what the call
-- says, so a bare rowcast.watch('t') would give up an exclusion.
-- Where the column of a rule or of a notification is gone, remedy shows that argument as it was or as null: put the
-- column's new name in before you run it.
-- A trigger that is enabled still does not fire in a session with session_replication_role = replica.

set search_path = pg_catalog, pg_temp;

\echo 'Channels and drift'
select w.channel, w."table", w.state, w.drift, w.remedy
  from rowcast.watched w
 order by w.drift is null, w.channel;

\echo 'What each channel tells whom'
select channel, user_rule, notification, singular, exclude as excluded, since
  from rowcast.watched
 order by channel;

\echo 'Tables that nobody hears'
select "table", reason, remedy from rowcast.unwatched order by 1;
