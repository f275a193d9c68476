-- rowcast.notify(user_id, notification_type, data) -> void
-- A notification to one user's sockets (/ws/user/{user_id}) from any SQL: sent if and when the caller's
-- transaction commits. Grant it to the roles that may: nobody else can call it.
-- tables touched: rowcast.outbox_0..2 (insert)
create or replace function rowcast.notify(user_id text, notification_type text, data jsonb)
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  body pg_catalog.json;
begin
  if user_id is null
    or user_id operator(pg_catalog.=) ''
    or notification_type is null
    or notification_type operator(pg_catalog.=) '' then
    raise exception 'cannot notify: user_id and notification_type must not be empty'
      using errcode = 'invalid_parameter_value',
        hint = 'select rowcast.notify(''123'', ''pet_ready'', ''{"pet_id": 1}'');';
  end if;
  body := pg_catalog.json_build_object('notification_type', notification_type, 'data', data);
  if rowcast.append(0, 'N', null, body, rowcast.actor(), array[user_id]) then
    perform rowcast.ring('user', 'N', body);
  end if;
end $$;
comment on function rowcast.notify(text, text, jsonb) is
  'sends a notification to one user when the transaction commits';
