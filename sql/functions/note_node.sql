-- rowcast.note_node(node, version, address, role, started_at, sockets, lag_ms, seen) -> void
-- Called by each node every ten seconds. Rows of nodes that were not seen for a day go. seen: the node needs nothing of
-- the outbox that this snapshot sees; null where it needs nothing at all.
-- tables touched: rowcast.node (insert, update, delete)
create or replace function rowcast.note_node(node text, version text, address text, role text, started_at timestamptz, sockets bigint, lag_ms float8, seen pg_snapshot) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into rowcast.node as n values (node, version, address, role, started_at, clock_timestamp(), sockets, lag_ms, seen)
  on conflict on constraint node_pkey do update
    set version = excluded.version, address = excluded.address, role = excluded.role, started_at = excluded.started_at,
        seen_at = excluded.seen_at, sockets = excluded.sockets, lag_ms = excluded.lag_ms, seen = excluded.seen;
  delete from rowcast.node n where n.seen_at < clock_timestamp() - interval '1 day';
$$;
comment on function rowcast.note_node(text, text, text, text, timestamptz, bigint, float8, pg_snapshot) is 'a node says that it lives';
