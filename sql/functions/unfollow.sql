-- rowcast.unfollow() -> void
-- Stops capturing the tables that were captured for claims alone, and that none follows any more.
-- tables touched: rowcast.channel (delete), rowcast.outbox_0..2 (insert)
create or replace function rowcast.unfollow() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  left_over regclass;
begin
  for left_over in
    select c.target from rowcast.channel c
     where c.unlisted and not exists (select from rowcast.followed f where f.target = c.target)
  loop
    perform rowcast.unwatch(left_over);
  end loop;
end $$;
comment on function rowcast.unfollow() is 'stops capturing the tables that no claim follows any more';
