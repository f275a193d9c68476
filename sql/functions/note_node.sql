-- rowcast.note_node(node, version, address, started_at, sockets, lag_ms) -> void
-- Called by each relay every ten seconds. Rows of relays that were not seen for a day go.
-- tables touched: rowcast.node (insert, update, delete)
create or replace function rowcast.note_node(node text, version text, address text, started_at timestamptz, sockets bigint, lag_ms float8) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into rowcast.node as n values (node, version, address, started_at, clock_timestamp(), sockets, lag_ms)
  on conflict on constraint node_pkey do update
    set version = excluded.version, address = excluded.address, started_at = excluded.started_at, seen_at = excluded.seen_at,
        sockets = excluded.sockets, lag_ms = excluded.lag_ms;
  delete from rowcast.node n where n.seen_at < clock_timestamp() - interval '1 day';
$$;
comment on function rowcast.note_node(text, text, text, timestamptz, bigint, float8) is 'a relay says that it lives';
