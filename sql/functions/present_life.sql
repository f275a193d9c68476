-- rowcast.present_life() -> text, what tells the present life of the server from any other
-- Timeline, start time and recovered end of the log. Only on a primary.
create or replace function rowcast.present_life() returns text
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select format('%s %s %s', left(pg_walfile_name(pg_current_wal_lsn()), 8),
                extract(epoch from pg_postmaster_start_time()),
                coalesce(pg_last_wal_replay_lsn()::text, 'clean'));
$$;
comment on function rowcast.present_life() is 'what tells the present life of the server from any other';
