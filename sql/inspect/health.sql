-- health.sql: is capture working, and what should I do where it is not?
--   psql -d DATABASE -f sql/inspect/health.sql
--
-- Rights: member of rowcast_relay. The finding "oldest transaction" sees transactions of other roles only with
-- pg_read_all_stats (in pg_monitor) or as superuser; without it that line says "none" and proves nothing. The first
-- result says whether you have it.
--
-- How to read it: one line a finding. fail: changes are being missed, act now. warn: nothing is lost yet. The remedy
-- is a statement to run or a place to look. No line with fail or warn: nothing to do.
-- It looks at the database alone. Whether a relay runs is in relays.sql; only the remedy of "retention" looks for one.

set search_path = pg_catalog, pg_temp;

select current_database() as database,
       current_user as asked_as,
       pg_is_in_recovery() as is_standby,
       pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_other_roles_transactions;

select finding, state, detail, remedy from rowcast.health;
