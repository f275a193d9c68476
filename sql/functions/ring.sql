-- rowcast.ring(channel name, op, data) -> void
-- The doorbell: pg_notify('rowcast', <the change with its row as JSON>). Called where rowcast.append says so: while
-- every relay is awake (one holds QUIET exclusively) nobody rings, since NOTIFY takes a cluster-wide lock at commit and
-- ends group commit (0.3 of the write throughput with 8 clients).
--
-- A bell is a hint, never data; the outbox is the truth. So it may be left out, and it must never raise:
--   * the first 16 changes of a transaction ring, then one bell more says that others follow;
--   * above half of the NOTIFY queue nothing rings, since a full queue fails the COMMIT of every notifying application;
--   * the lock that NOTIFY takes at commit obeys lock_timeout: a writer with one of less than a second, or of no whole
--     seconds, does not ring, since its COMMIT would fail where others are slow. Its change is told within a second;
--   * a payload of 8,000 bytes raises in the application's statement, so above 7,900 the row is left out;
--   * a byte that cannot be converted would end the listener's connection, so the bell says nothing where the database
--     is not in UTF-8.
create or replace function rowcast.ring(channel text, op "char", data json)
returns void language plpgsql as $$
declare
  bells pg_catalog.int4 := pg_catalog.length(coalesce(pg_catalog.current_setting('rowcast.bells', true), ''));
  body pg_catalog.text := '';
begin
  if bells operator(pg_catalog.>) 16
    or pg_catalog.right(pg_catalog.current_setting('lock_timeout'), 2) operator(pg_catalog.=) 'ms'
    or pg_catalog.pg_notification_queue_usage() operator(pg_catalog.>) 0.5 then
    return;
  end if;
  perform pg_catalog.set_config('rowcast.bells', pg_catalog.repeat('x', bells operator(pg_catalog.+) 1), true);
  if bells operator(pg_catalog.=) 16 then
    perform pg_catalog.pg_notify('rowcast', '{"more":true}');
    return;
  end if;
  if rowcast.bell_mode() operator(pg_catalog.<>) 'empty'
    and pg_catalog.current_setting('server_encoding') operator(pg_catalog.=) 'UTF8' then
    body := '{"entity_type":' operator(pg_catalog.||) pg_catalog.to_json(channel)::pg_catalog.text
      operator(pg_catalog.||) ',"op":"' operator(pg_catalog.||) op::pg_catalog.text
      operator(pg_catalog.||) '","id":'
        operator(pg_catalog.||) pg_catalog.currval('rowcast.outbox_id')::pg_catalog.text;
    if data is not null
      and pg_catalog.octet_length(body)
        operator(pg_catalog.+) pg_catalog.octet_length(data::pg_catalog.text)
        operator(pg_catalog.<) 7900 then
      body := body operator(pg_catalog.||) ',"data":' operator(pg_catalog.||) data::pg_catalog.text;
    end if;
    body := body operator(pg_catalog.||) '}';
  end if;
  perform pg_catalog.pg_notify('rowcast', body);
end $$;
comment on function rowcast.ring(text, "char", json) is 'rings the doorbell; never raises';
