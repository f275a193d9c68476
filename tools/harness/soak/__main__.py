"""Proves, or refutes, what rowcast promises: nothing lost, nothing twice, the changes of a row in order, a snapshot and its
stream equal to the table, all channels of a socket of one moment at each cut. Writers of every kind, subscribers that drop and
resume on any node, nodes that are killed, a Postgres that restarts; in the end each subscriber is compared with the outbox and
the tables. Exit code 1 on any mistake. With --backbone there are nodes of every kind, and a Redis between them that fails too;
with --members who may see a row changes all the time, and each socket is compared with what its holder may see at each cut.

Owns the order of a run and its report. The parts lie beside it: the watched tables, what is written, the faults,
the backbone, the subscribers, the verdict. A private Postgres and the WebSocket client are harness.cluster and
harness.websocket. Standard library only.
"""

import argparse
import contextlib
import random
import secrets
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness import report

from . import ending, members, verdict
from .audience import Audience
from .backbone import FLEET, Backbone
from .faults import KINDS, Faults, Node, free_port, kinds_of
from .tables import CHANNELS
from .workload import Crew

SPARE = 500  # seconds beyond --seconds after which the run is given up, whatever hangs


def main(stack: contextlib.ExitStack) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long is written (default: 60)")
    parser.add_argument(
        "--seed", type=int, help="replays the actions of a run, as far as timing allows (default: a random one)"
    )
    parser.add_argument("--nodes", type=int, help="rowcast processes on the one database (default: 2)")
    parser.add_argument(
        "--backbone",
        action="store_true",
        help="nodes of all kinds, mixed: one on Postgres, two publisher candidates, a gateway with and one without a "
        "database, and a Redis of their own; needs redis-server, version 7",
    )
    parser.add_argument(
        "--members",
        action="store_true",
        help="who may see a row stands in a table, and members come and go: at each cut a socket has what its holder may see",
    )
    parser.add_argument(
        "--faults",
        default="all",
        metavar="|".join((*KINDS, "KIND,…")),
        help="relay: nodes killed or ended, their connections cut; all: also nodes stopped for a while, restarts of Postgres, "
        "whatever happens to Redis (default: all); or the kinds by their names in the report, parted by commas. "
        "Subscribers drop and resume in any case",
    )
    parser.add_argument(
        "--logs", metavar="DIR", type=Path, help="let the nodes log at level debug, and leave the logs there"
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.backbone and (arguments.nodes or arguments.members):
        parser.error("--backbone has its own nodes: leave out --nodes and --members")
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)

    give_up_after(arguments.seconds + SPARE)
    rng = random.Random(f"{seed}/setting")
    with_two_phase = rng.random() < 0.3  # then no doorbell can ring, and rowcast polls
    # a short log throws more subscribers off it, and lets more resumes come from the outbox
    node_settings = {
        "ROWCAST_LOG_BYTES": str(rng.choice((1 << 16, 1 << 20, 1 << 22))),
        "ROWCAST_HEARTBEAT_SECONDS": "1",
        "ROWCAST_DRAIN_SECONDS": "2",
    }
    count = len(FLEET) if arguments.backbone else arguments.nodes or 2
    kit.note(
        f"two-phase commit {'on, no doorbell' if with_two_phase else 'off'}; log of a channel {node_settings['ROWCAST_LOG_BYTES']} bytes; "
        f"{count} nodes; faults: {arguments.faults}"
    )

    cluster = kit.Cluster(
        stack,
        arguments,
        fsync="off",
        deadlock_timeout="200ms",
        max_connections="100",
        max_prepared_transactions="10" if with_two_phase else "0",
    )
    cluster.rowcast("migrate")
    if arguments.members:
        stack.callback(signal.alarm, 0)
        return members.run(stack, cluster, arguments, seed, node_settings)
    for channel in CHANNELS:
        cluster.psql(channel.table, channel.first_rows, f"select rowcast.watch('public.{channel.name}')")
    after = verdict.last_id(cluster)
    if arguments.logs:
        node_settings["ROWCAST_LOG"] = "debug"
        arguments.logs.mkdir(parents=True, exist_ok=True)
        stack.callback(lambda: [shutil.copy(log, arguments.logs) for log in cluster.dir.glob("*.log")])
    backbone = (
        add_backbone(stack, cluster, random.Random(f"{seed}/backbone"), node_settings) if arguments.backbone else None
    )
    kinds = kinds_of(arguments.faults, backbone)
    if backbone:
        nodes = [
            Node(stack, cluster, number, {**node_settings, **backbone.settings(number, variable)}, rng, kind, has_rows)
            for number, (kind, variable, has_rows) in enumerate(FLEET)
        ]
    else:
        nodes = [Node(stack, cluster, number, node_settings, rng) for number in range(count)]
    for node in nodes:
        node.start()
    audience = Audience(
        stack,
        nodes,
        seed,
        {channel.name: verdict.table_rows(cluster, channel) for channel in CHANNELS},
        backbone and backbone.excuses_gap,
    )
    crew = Crew(stack, cluster, seed, with_two_phase)
    faults = Faults(stack, cluster, nodes, kinds, seed, arguments.seconds, audience.complain, backbone)

    stack.callback(signal.alarm, 0)  # last in, first out: cleaning up is not given up
    run(cluster, nodes, audience, crew, faults, arguments.seconds)
    return conclude(cluster, nodes, audience, crew, faults, backbone, verdict.truth(cluster, after))


def add_backbone(stack: contextlib.ExitStack, cluster: kit.Cluster, rng: random.Random, node_settings: Any) -> Any:
    """A Redis; what it and the nodes are like is drawn anew for each seed."""
    retention = rng.choice((5, 60, 3600))
    has_replica = rng.random() < 0.5
    # little memory lets resumes come from the stream, and from the outbox
    node_settings["ROWCAST_HISTORY_BYTES"] = str(rng.choice((1 << 16, 1 << 20, 1 << 26)))
    kit.note(
        f"stream of {retention} s; history of {node_settings['ROWCAST_HISTORY_BYTES']} bytes; "
        f"Redis {'with a replica' if has_replica else 'alone'}"
    )
    return Backbone(stack, cluster.dir, (free_port(rng), free_port(rng)), retention, has_replica)


def run(cluster: kit.Cluster, nodes: Any, audience: Any, crew: Any, faults: Any, seconds: int) -> None:
    """The run itself, until every subscriber has the last change or its time is over."""
    if not audience.open(30):
        logs = "\n".join(f"{node.name}: {kit.tail(node.log, 5)}" for node in nodes)
        raise kit.Failure(
            "not every subscriber was told `subscribed` within 30 s: " + "; ".join([*audience.complaints, logs])
        )
    kit.note("subscribed; the writers begin")
    audience.let_loose(seconds * 0.6)
    crew.start()
    faults.start()
    for passed in range(0, seconds, 10):
        audience.pump(min(10, seconds - passed))
        kit.note(
            f"{min(passed + 10, seconds)} s: {crew.transactions():,} transactions, {audience.tally['messages']:,} messages, "
            f"{audience.tally['resumed']:,} resumed, {audience.tally['snapshots']:,} snapshots, {sum(faults.counts.values())} faults"
        )

    faults.leave()
    ending.end(cluster, audience, crew, faults.is_alive)


def conclude(
    cluster: kit.Cluster, nodes: Any, audience: Any, crew: Any, faults: Any, backbone: Any, truths: Any
) -> int:
    """The report; the exit code."""
    ordinary = verdict.judge_programs(nodes, crew, audience.complain)
    subscriptions = audience.subscriptions()
    findings = verdict.judge(truths, subscriptions)
    mistakes: Counter[Any] = Counter()
    for finding in findings:
        mistakes.update(finding.mistakes)
    wrong = sum(mistakes.values()) + audience.tally["complaints"]

    tally = audience.tally
    gaps = {name: count for name, count in tally.items() if name.startswith("gap: ")}
    rows = [
        ("transactions of the writers", crew.transactions()),
        *((f"… {name}", count) for name, count in ordinary.items()),
        ("changes", sum(len(each.ids) for each in truths.values())),
        ("messages", tally["messages"]),
        ("subscriptions", len(subscriptions)),
        (
            "… of which followed from the first change to the last",
            sum(each.from_the_start for _, each in subscriptions),
        ),
        ("connections", tally["connections"]),
        *sorted(
            (name, count) for name, count in tally.items() if name.startswith(("closed by", "connections refused"))
        ),
        ("resumes: recovered", tally["resumed"]),
        ("… messages replayed for them", tally["replayed"]),
        *((f"resumes: {name}", count) for name, count in sorted(gaps.items())),
        ("snapshots", tally["snapshots"]),
        ("… rows in them", tally["snapshot rows"]),
        ("tables read in pages", tally["tables read in pages"]),
        ("windows opened", tally["windows opened"]),
        ("… pages that grew them", tally["windows grown"]),
        ("cuts at which totals were compared", tally["cuts compared"]),
        *(
            [("snapshots refused", tally["snapshots refused"]), ("entries appended to the stream", backbone.appended())]
            if backbone
            else []
        ),
        *((f"fault: {name}", count) for name, count in sorted(faults.counts.items()) if count),
        ("told `source_down`", tally["source_down"]),
        ("complaints", tally["complaints"]),
        *((sort, mistakes[sort]) for sort in verdict.MISTAKES),
    ]
    print(report.table(["", "count"], [(name, f"{count:,}") for name, count in rows]))
    print(f"\n{'Nothing is wrong.' if not wrong else f'{wrong:,} MISTAKES.'}")
    if backbone:
        kit.note(f"the stream in the end: {backbone.describe()}")
    elif gaps:
        kit.note(
            "warning: there were gaps. Each is allowed by the protocol, and none should be needed here: nothing was lost or pruned"
        )
    explain(cluster, nodes, audience, faults, findings, wrong)
    return 1 if wrong else 0


def explain(cluster: kit.Cluster, nodes: Any, audience: Any, faults: Any, findings: Any, wrong: Any) -> None:
    """What was wrong, as far as it fits a screen or two."""
    for complaint in audience.complaints:
        kit.note(f"complaint at {complaint}")
    for finding in sorted(findings, key=lambda each: len(each.evidence), reverse=True)[:5]:
        kit.note(f"\nclient {finding.client}, channel {finding.channel}: {finding.mistakes}")
        for line in finding.evidence:
            kit.note(f"  {line}")
        if finding.suspects:
            for line in verdict.look_up(cluster, finding):
                kit.note(f"  {line}")
            kit.note(f"  its journal around id {finding.suspects[0]}:")
            for line in audience.clients[finding.client].around(finding.channel, finding.suspects[0]):
                kit.note(f"    {line}")
    if wrong:
        kit.note("\nthe faults:")
        for at, what in faults.journal:
            kit.note(f"  {at - audience.began:7.2f} s  {what}")
        for node in nodes:
            kit.note(f"\nthe end of {node.name}'s log:\n{kit.tail(node.log)}")


def give_up_after(seconds: int) -> None:
    """Ends the run as a failure, with everything that it started."""

    def leave(_number: Any, _frame: Any) -> None:
        raise kit.Failure(f"it did not end within {seconds} s")

    signal.signal(signal.SIGALRM, leave)
    signal.alarm(seconds)


if __name__ == "__main__":
    kit.main(main)
