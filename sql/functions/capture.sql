-- rowcast.capture() -> trigger, AFTER .. FOR EACH ROW
-- Writes the change into the outbox, in the writer's own transaction, and rings the doorbell.
-- arguments: 0 channel id · 1 channel name · 2 'x' where a column's text depends on output settings, else ''
--            3 attnums (of the watched root) to exclude · 4 oid of the watched root · 5 'u' where a rule sets rowcast.users
-- tables touched: rowcast.outbox_0..2 (insert)
--
-- One generic function for every table: generated code per table was no faster and fails every write once a
-- column is dropped. What it may not do, and why:
--   * raise: row_to_json, never jsonb (a \u0000, 1e200000 or a large bytea would fail the application's write);
--   * wait: no upsert, no foreign key, no lock on anything another transaction may hold;
--   * burn transaction ids: no EXCEPTION block (one a row);
--   * run anybody's code as its owner: it is security definer, so search_path is set AND every name and operator
--     is qualified. CASE x WHEN, IN, BETWEEN, LIKE, NULLIF, IS DISTINCT FROM and a bare = look their operator up
--     in the search_path; the owner may only insert into the outbox.
create or replace function rowcast.capture() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  op pg_catalog."char";
  before pg_catalog.json;
  after pg_catalog.json;
  deviates pg_catalog.bool := false;
  rule pg_catalog.text;
  users pg_catalog.text[];
  done pg_catalog.bool;
begin
  if pg_catalog.current_setting('rowcast.mute', true) operator(pg_catalog.=) 'on' then
    return null;
  end if;
  if tg_op operator(pg_catalog.=) 'INSERT' then op := 'I'; elsif tg_op operator(pg_catalog.=) 'UPDATE' then op := 'U'; else op := 'D'; end if;

  if tg_argv[2] operator(pg_catalog.<>) '' then
    deviates := not (pg_catalog.current_setting('TimeZone') operator(pg_catalog.=) 'UTC' or pg_catalog.current_setting('TimeZone') operator(pg_catalog.=) 'Etc/UTC')
      or pg_catalog.current_setting('IntervalStyle') operator(pg_catalog.<>) 'postgres'
      or pg_catalog.current_setting('bytea_output') operator(pg_catalog.<>) 'hex'
      or not pg_catalog.starts_with(pg_catalog.current_setting('DateStyle'), 'ISO')
      or pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 operator(pg_catalog.<) 1;
  end if;

  if deviates then
    -- old is not assigned in an insert, new not in a delete: each call names only what there is
    if op operator(pg_catalog.=) 'I' then
      select p.new into after from rowcast.capture_pinned(op, new, new, tg_relid, tg_argv[4]::pg_catalog.oid, tg_argv[3]::pg_catalog.int2[]) p;
    elsif op operator(pg_catalog.=) 'D' then
      select p.old into before from rowcast.capture_pinned(op, old, old, tg_relid, tg_argv[4]::pg_catalog.oid, tg_argv[3]::pg_catalog.int2[]) p;
    else
      select p.old, p.new into before, after from rowcast.capture_pinned(op, old, new, tg_relid, tg_argv[4]::pg_catalog.oid, tg_argv[3]::pg_catalog.int2[]) p;
    end if;
  elsif tg_argv[3] operator(pg_catalog.=) '{}' then
    if op operator(pg_catalog.<>) 'I' then before := pg_catalog.row_to_json(old.*); end if;
    if op operator(pg_catalog.<>) 'D' then after := pg_catalog.row_to_json(new.*); end if;
  else
    if op operator(pg_catalog.<>) 'I' then before := rowcast.json_without(old, tg_relid, tg_argv[4]::pg_catalog.oid, tg_argv[3]::pg_catalog.int2[]); end if;
    if op operator(pg_catalog.<>) 'D' then after := rowcast.json_without(new, tg_relid, tg_argv[4]::pg_catalog.oid, tg_argv[3]::pg_catalog.int2[]); end if;
  end if;

  if tg_argv[5] operator(pg_catalog.=) 'u' then
    -- read and cleared, so that no other row can take it for its own; '' is what a setting is after its transaction
    rule := pg_catalog.current_setting('rowcast.users', true);
    if pg_catalog.length(rule) operator(pg_catalog.>) 0 then
      users := rule::pg_catalog.text[];
      perform pg_catalog.set_config('rowcast.users', '', true);
    end if;
  end if;
  -- assignments, not PERFORM: that runs a query each
  done := rowcast.append(tg_argv[0]::pg_catalog.int4, op, before, after, rowcast.actor(), users);
  done := rowcast.ring(tg_argv[1], op, coalesce(after, before));
  return null;
end $$;
comment on function rowcast.capture() is 'row trigger of watched tables: writes the change into the outbox and rings the doorbell';
