-- rowcast.note_node(node, version, address, role, started_at, sockets, lag_ms, seen, knows) -> void
-- Called by each node every ten seconds. Rows of nodes that were not seen for a day go. seen: the node needs nothing of
-- the outbox that this snapshot sees; null where it needs nothing at all. knows: the version of the schema that its
-- program is of; programs of before 7 call the function without it, also where a node went back to one.
--
-- A node whose reader stands still goes on noting itself: so it notes what it has not read, too. Here, not in
-- rowcast.health: a transaction in which somebody has looked at that would keep a segment from being emptied. A
-- segment that is locked is not waited for.
-- tables touched: rowcast.node (insert, update, delete), rowcast.outbox (select)
create or replace function rowcast.note_node(
  node text,
  version text,
  address text,
  role text,
  started_at timestamptz,
  sockets bigint,
  lag_ms float8,
  seen pg_snapshot,
  knows int)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
#variable_conflict use_variable
declare
  unread timestamptz;
begin
  begin
    select o.at into unread from rowcast.outbox o where o.xid >= pg_snapshot_xmax(seen) order by o.xid limit 1;
  exception when lock_not_available then
    null;
  end;
  insert into rowcast.node as n
    (node, version, address, role, started_at, seen_at, sockets, lag_ms, seen, unread, knows)
    values (node, version, address, role, started_at, clock_timestamp(), sockets, lag_ms, seen, unread, knows)
  on conflict on constraint node_pkey do update
    set version = excluded.version, address = excluded.address, role = excluded.role, started_at = excluded.started_at,
        seen_at = excluded.seen_at,
        sockets = excluded.sockets,
        lag_ms = excluded.lag_ms,
        seen = excluded.seen,
        unread = excluded.unread,
        knows = excluded.knows;
  -- and of one that noted itself while the clock was ahead; where it lives, it does so again
  delete from rowcast.node n
   where n.seen_at < clock_timestamp() - interval '1 day' or n.seen_at > clock_timestamp() + interval '1 minute';
end $$;
comment on function rowcast.note_node(text, text, text, text, timestamptz, bigint, float8, pg_snapshot, int) is
  'a node says that it lives, and what it has not read';
create or replace function rowcast.note_node(
  node text,
  version text,
  address text,
  role text,
  started_at timestamptz,
  sockets bigint,
  lag_ms float8,
  seen pg_snapshot)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform rowcast.note_node(node, version, address, role, started_at, sockets, lag_ms, seen, null);
end $$;
comment on function rowcast.note_node(text, text, text, text, timestamptz, bigint, float8, pg_snapshot) is
  'the same of a program that does not say which version of the schema it is of';
