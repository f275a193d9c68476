-- rowcast.note_durable() -> pg_lsn, a position in the log that will survive a crash
-- Called by a relay about each second while changes come; several relays share one note.
-- tables touched: rowcast.incarnation (update)
create or replace function rowcast.note_durable() returns pg_lsn
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  noted pg_lsn;
begin
  update rowcast.incarnation i set durable = pg_current_wal_flush_lsn(), durable_at = clock_timestamp()
   where i.number = (select max(number) from rowcast.incarnation)
     and i.durable_at < clock_timestamp() - interval '500 milliseconds'
   returning durable into noted;
  if noted is null then
    select durable into noted from rowcast.incarnation i order by i.number desc limit 1;
  end if;
  return noted;
end $$;
comment on function rowcast.note_durable() is 'notes how far the log is flushed';
