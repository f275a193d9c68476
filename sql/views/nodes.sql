-- rowcast.nodes: the nodes that live: seen within half a minute, which is three of their notes.
create view rowcast.nodes as
select n.node, n.role, n.version, n.address, n.sockets, n.lag_ms, n.started_at, n.seen_at
  from rowcast.node n
 where n.seen_at > clock_timestamp() - interval '30 seconds'
 order by n.started_at;
comment on view rowcast.nodes is
  'nodes that live: what each is for (relay, publisher, candidate, gateway), sockets, and milliseconds from capture to '
  'the log of the last change';
