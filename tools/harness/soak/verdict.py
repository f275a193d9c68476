"""What every subscriber must have received, asked of the database, and whether it did."""

import json
from dataclasses import dataclass, field
from typing import Any

from harness import cluster as kit

from .subscription import EVIDENCE, Ids
from .tables import CHANNELS

MISTAKES = ("lost", "repeated", "disordered", "invented", "unequal tables")


@dataclass
class Truth:
    """A channel as the database knows it."""

    changes: list  # (id, when it was captured in seconds since 1970) of those that have a message
    ids: Ids  # of them
    rows: dict  # key → row

    def ids_since(self, moment: Any) -> Any:
        """Ids of what was captured after a moment."""
        return self.ids if moment == 0 else Ids(number for number, at in self.changes if at > moment)


def table_rows(cluster: kit.Cluster, channel: Any) -> dict[Any, Any]:
    """Key → row of what subscribers may know of a table, as the messages have it."""
    text = cluster.psql(f"select row_to_json(t) from {channel.name} t where {channel.shown}")
    return {row[channel.key]: row for row in map(json.loads, text.splitlines())}


def last_id(cluster: kit.Cluster) -> int:
    """Ids above this one belong to changes that are still to come."""
    return int(cluster.psql("select coalesce(max(id), 0) from rowcast.outbox"))


def truth(cluster: kit.Cluster, after: Any) -> Any:
    """Channel's name → what the database says, of changes above an id. To be asked when nobody writes.

    A row that moves between partitions is a deleted and an inserted row, in this order, of one key and transaction. They
    are one message, which has the second one's id."""
    found = {}
    for channel in CHANNELS:
        text = cluster.psql(f"""
            select id, at from (
              select o.id, extract(epoch from o.at) as at, o.op,
                     lead(o.op) over (partition by o.xid, coalesce(o.new, o.old)->>'{channel.key}' order by o.id) as next
                from rowcast.outbox o join rowcast.channel c on c.id = o.channel
               where c.name = '{channel.name}' and o.op <> 'C' and o.id > {after}) change
             where not (op = 'D' and next is not distinct from 'I') order by id""")
        changes = [(int(number), float(at)) for number, at in (line.split("|") for line in text.splitlines())]
        found[channel.name] = Truth(changes, Ids(number for number, _ in changes), table_rows(cluster, channel))
    return found


@dataclass
class Finding:
    """What was wrong with one subscription."""

    client: int
    channel: str
    mistakes: dict
    evidence: list = field(default_factory=list)
    suspects: list = field(default_factory=list)  # ids that were lost or invented, or at which that was noticed


def judge_programs(nodes: Any, crew: Any, complain: Any) -> Any:
    """Complains of what no correct node logs, and of errors that no writer should meet; counts of the other errors."""
    for node in nodes:
        for line in node.panics():
            complain(f"{node.name}: {line}")
    ordinary, strange = crew.errors()
    if strange:
        complain(f"the writers met errors that they should not (SQLSTATE: count): {strange}")
    return ordinary


def judge(truths: Any, subscriptions: Any) -> Any:
    """A finding for each subscription that something is wrong with."""
    findings = []
    for client, each in subscriptions:
        each.settle()
        finding = Finding(client, each.channel.name, dict(each.mistakes), list(each.evidence))
        compare_ids(finding, truths[each.channel.name], each)
        compare_rows(finding, truths[each.channel.name].rows, each)
        finding.suspects += each.suspects[:EVIDENCE]
        finding.mistakes = {sort: count for sort, count in finding.mistakes.items() if count}
        if finding.mistakes:
            findings.append(finding)
    return findings


def compare_ids(finding: Any, truth: Any, subscription: Any) -> None:
    """Ids against ids. What the base already holds need not come; what was captured after the base was received must. In
    between, while a snapshot was on its way, the versions of the rows tell."""
    received = Ids()
    received.update(subscription.ids)
    received.update(subscription.all_ids)
    invented, first = received.without(truth.ids)
    if invented:
        finding.mistakes["invented"] = finding.mistakes.get("invented", 0) + invented
        finding.evidence.append(f"received and not in the outbox as a change of its own: ids {first}")
        finding.suspects += first
    lost, first = truth.ids_since(subscription.based_at).without(subscription.ids)
    # a hole in a row's versions is only needed where ids cannot tell: a version that comes late leaves one too
    finding.mistakes["lost"] = lost if subscription.from_the_start else max(lost, finding.mistakes.get("lost", 0))
    if lost:
        finding.evidence.append(f"in the outbox and not received: ids {first}")
        finding.suspects += first


def compare_rows(finding: Any, rows: Any, subscription: Any) -> None:
    copy, rows = subscription.shown(rows)
    if copy == rows:
        return
    finding.mistakes["unequal tables"] = 1
    if copy is None:
        finding.evidence.append("it has no copy of the table: its snapshot never came to an end")
        return
    differing = sorted(key for key in copy.keys() | rows.keys() if copy.get(key) != rows.get(key))
    finding.evidence.append(f"{len(differing)} rows differ")
    for key in differing[:EVIDENCE]:
        finding.evidence.append(
            f"row {key}: received {json.dumps(copy.get(key))[:200]}, in the table {json.dumps(rows.get(key))[:200]}"
        )


def look_up(cluster: kit.Cluster, finding: Any) -> list[str]:
    """What the outbox says of a finding's suspects, a line each, with their rows' next change in the same transaction."""
    key = next(channel.key for channel in CHANNELS if channel.name == finding.channel)
    wanted = ", ".join(map(str, finding.suspects))
    return cluster.psql(f"""
        with channel as (select id from rowcast.channel where name = '{finding.channel}'),
             change as (select o.id, o.xid, o.op::text, coalesce(o.new, o.old)->>'{key}' as key from rowcast.outbox o, channel c where o.channel = c.id),
             suspect as (select * from change where xid in (select xid from change where id in ({wanted})))
        select 'id ' || id || ': ' || op || coalesce(' of row ' || key, '') || ', transaction ' || xid
               || coalesce(', then ' || (select next.op || ' with id ' || next.id from suspect next
                                          where next.xid = s.xid and next.key = s.key and next.id > s.id order by next.id limit 1), '')
          from suspect s where id in ({wanted}) order by id""").splitlines()
