-- rowcast.revoke(user_id) -> void
-- Closes every socket whose token names this user, on every relay, within a second of the commit. The token itself stays
-- good until it expires: whoever issues tokens must not give out another one.
-- tables touched: rowcast.outbox_0..2 (insert)
create or replace function rowcast.revoke(user_id text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if user_id is null or user_id = '' then
    raise exception 'cannot revoke: user_id must not be empty' using errcode = 'invalid_parameter_value';
  end if;
  if rowcast.append(0, 'R', null, null, rowcast.actor(), array[user_id]) then
    perform rowcast.ring('user', 'R', null);
  end if;
end $$;
comment on function rowcast.revoke(text) is 'closes every socket of a user, on every relay';
