-- rowcast.allow(channel, role, row_filter, columns, actor) -> void
-- Lets the clients whose token has this role (without a token, or without the claim: 'anon') see a channel: the rows
-- that satisfy row_filter, of them these columns; null: all. Stated again it replaces what was stated before. Open
-- sockets follow within a second. Of no importance while the relay has no key to check tokens with.
--   channel  'pets', also one that is not watched yet; 'user/*': the notifications of every user, not only one's own
--   actor    whether they are told who wrote; default: all but 'anon' are
-- A policy holds from now on, for the columns that have these names now: what was captured before it was stated, or
-- changed, is not shown by it, and a column that takes a name later is not seen until it is stated again.
-- tables touched: rowcast.policy (insert, update), rowcast.outbox_0..2 (insert)
create or replace function rowcast.allow(
  channel text,
  role text,
  row_filter text default null,
  columns text[] default null,
  actor boolean default null)
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  entry rowcast.channel;
  missing text;
begin
  if channel is null or role is null or role = '' then
    raise exception 'cannot allow: channel and role must not be empty'
      using errcode = 'invalid_parameter_value', hint = 'select rowcast.allow(''pets'', ''staff'');';
  end if;
  if channel = 'user/*' and (row_filter is not null or columns is not null) then
    raise exception 'cannot allow channel user/*: notifications have neither rows nor columns'
      using errcode = 'invalid_parameter_value';
  end if;
  if array_position(columns, null) is not null or row_filter = '' then
    raise exception 'cannot allow channel %: an empty row filter, or a column without a name', channel
      using errcode = 'invalid_parameter_value', hint = 'leave out what is to be everything';
  end if;
  if row_filter is not null then
    perform rowcast.check_filter(channel, row_filter);
  end if;
  select * into entry from rowcast.channel c where c.name = allow.channel;
  if entry.target is not null then
    select name into missing from unnest(columns) as name
     where not exists (select from pg_attribute a where a.attrelid = entry.target and a.attname = name and a.attnum > 0
                          and not a.attisdropped and a.attgenerated <> 'v' and a.attnum <> all (entry.exclude)
                          and (entry.allowed is null or a.attnum = any (entry.allowed))
                          and a.attname <> all (entry.hidden_names || entry.given_exclude));
    if found then
      raise exception 'cannot allow channel %: table % has no column %, or it is excluded',
        channel,
        entry.target,
        missing
        using errcode = 'undefined_column';
    end if;
  end if;
  insert into rowcast.policy as p (channel, role, row_filter, columns, actor, floor)
    values (
      allow.channel,
      allow.role,
      allow.row_filter,
      allow.columns,
      coalesce(allow.actor, allow.role <> 'anon'),
      rowcast.floor_now())
    on conflict on constraint policy_one_for_a_role do update
      set row_filter = excluded.row_filter,
          columns = excluded.columns,
          actor = excluded.actor,
          stated_at = now(),
          stated_by = session_user,
          floor = case
            when (p.row_filter, p.columns, p.actor)
              is distinct from (excluded.row_filter, excluded.columns, excluded.actor)
                         or rowcast.drifted_names(p) <> '{}' then excluded.floor else p.floor end;
  perform rowcast.bind_policies(channel, role, entry.target, entry.origin);
  perform rowcast.tell_policy(channel);
end $$;
select rowcast.supersede('rowcast.allow(text, text, text, text[])', 'rowcast.allow(text, text, text, text[], boolean)');
comment on function rowcast.allow(text, text, text, text[], boolean) is
  'lets a role see a channel: select rowcast.allow(''pets'', ''owner'', ''user_id=eq.{sub}'', ''{pet_id,name}'')';
