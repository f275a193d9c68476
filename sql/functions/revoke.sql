-- rowcast.revoke(user_id) -> void
-- Closes every socket whose token names this user and was issued until now, on every relay, within a second of the
-- commit, and makes every relay refuse such tokens for a day: also one that starts later. The application that issues
-- tokens must not give out another one.
-- tables touched: rowcast.revoked (insert, update, delete), rowcast.outbox_0..2 (insert)
create or replace function rowcast.revoke(user_id text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if user_id is null or user_id = '' then
    raise exception 'cannot revoke: user_id must not be empty' using errcode = 'invalid_parameter_value';
  end if;
  delete from rowcast.revoked r where r.at < clock_timestamp() - interval '24 hours';
  insert into rowcast.revoked as r (user_id, at) values (revoke.user_id, clock_timestamp())
    on conflict on constraint revoked_pkey do update set at = greatest(r.at, excluded.at);
  if rowcast.append(0, 'R', null, null, rowcast.actor(), array[user_id]) then
    perform rowcast.ring('user', 'R', null);
  end if;
end $$;
comment on function rowcast.revoke(text) is
  'closes every socket of a user, on every relay, and refuses the tokens that were issued until now';
