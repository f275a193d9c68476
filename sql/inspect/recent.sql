-- recent.sql: what was captured last?
--   psql -d DATABASE -f sql/inspect/recent.sql
--   psql -d DATABASE -v channel=pets -f sql/inspect/recent.sql      only one channel
--
-- Rights: member of rowcast_relay. It prints values of the application's rows: mind who looks over your shoulder.
--
-- How to read it: newest first, at most 100 changes among the last 1,000 ids of the whole outbox (of one channel:
-- those of it among these 100). age is the time since capture by the writer's clock. Changes of one tx reach
-- subscribers together, when it commits; a change is in the outbox at commit, whether or not a relay runs.
-- channel "user" with action "notify" is rowcast.notify; "channel changed" is watch, unwatch, create_channel or
-- drop_channel; an empty channel is one that no longer exists. data is cut at 100 characters: change.sql shows one
-- change whole.

set search_path = pg_catalog, pg_temp;

\if :{?channel}
\else
  \set channel ''
\endif

select id,
       tx,
       date_trunc('milliseconds', clock_timestamp() - at) as age,
       channel,
       action,
       actor,
       users,
       left(data::text, 100) as data
  from rowcast.recent
 where :'channel' = '' or channel = :'channel'
 order by id desc;
