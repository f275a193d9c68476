-- rowcast.capture_truncate() -> trigger, AFTER TRUNCATE FOR EACH STATEMENT; rowcast.capture_truncate_brief()
-- arguments: 0 channel id, 1 channel name.   tables touched: rowcast.outbox_0..5 (insert)
create or replace function rowcast.capture_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if pg_catalog.current_setting('rowcast.mute', true) operator(pg_catalog.=) 'on' then
    return null;
  end if;
  if rowcast.append(tg_argv[0]::pg_catalog.int4, 'T', null, null, rowcast.actor(), null) then
    perform rowcast.ring(tg_argv[1], 'T', null);
  end if;
  return null;
end $$;
comment on function rowcast.capture_truncate() is 'truncate trigger of watched tables';
create or replace function rowcast.capture_truncate_brief() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if pg_catalog.current_setting('rowcast.mute', true) operator(pg_catalog.=) 'on' then
    return null;
  end if;
  if rowcast.append_brief(tg_argv[0]::pg_catalog.int4, 'T', null, null, rowcast.actor(), null) then
    perform rowcast.ring(tg_argv[1], 'T', null);
  end if;
  return null;
end $$;
comment on function rowcast.capture_truncate_brief() is 'the same of tables that are kept briefly';
