-- rowcast.tell_policy(channel) -> void
-- Makes every relay read the policies again, when the transaction commits.
-- tables touched: rowcast.outbox_0..2 (insert)
create or replace function rowcast.tell_policy(channel text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if rowcast.append(0, 'C', null, null, rowcast.actor(), null) then
    perform rowcast.ring(channel, 'C', null);
  end if;
end $$;
comment on function rowcast.tell_policy(text) is 'makes every relay read the policies again';
