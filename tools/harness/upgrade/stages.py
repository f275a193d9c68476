"""The two ways that a fleet goes: on Postgres alone, and over Redis. Each goes to the new version, back, and to the new version
again, as an operator does for whom the first attempt went wrong.

Owns the order of the steps, which is that of docs/guides/upgrade.md; what is wrong is judged by the fleet.
"""

import argparse
import contextlib
import threading
from collections.abc import Callable

from harness import cluster as kit
from harness import redis
from harness.soak.faults import Node

from . import refusals
from .fleet import Fleet, Version

BESIDE = 2.5  # seconds for which both versions have sockets
ALONE = 1.0  # seconds for which one of them has


def on_postgres(stack: contextlib.ExitStack, arguments: argparse.Namespace, before: Version, after: Version) -> int:
    """Nodes that each read the outbox."""
    fleet = Fleet(stack, arguments, "on Postgres")
    fleet.migrate(before, "is now at version")
    fleet.make_tables()
    fleet.join(node := fleet.launch(before))
    fleet.open()
    fleet.pump(ALONE)
    refusals.older_schema(fleet, after)
    fleet.migrate(after, "functions are current")
    fleet.pump(ALONE)
    node = replace(fleet, node, after)
    if arguments.no_way_back:
        refusals.no_way_back(fleet, before)
    else:
        fleet.migrate(before, "was left as it is")
        node = replace(fleet, node, before)
        # a restart of Postgres in the middle of it: the old version looks at the new schema again
        fleet.cluster.restart()
        fleet.wait(f"{node.name} is ready after a restart of Postgres", 60, node.is_ready)
        refusals.with_an_older_node(fleet, before)
        node = replace(fleet, node, after)
    fleet.migrate(after, "functions are current")
    fleet.watch_again()
    fleet.pump(ALONE)
    wrong = fleet.conclude()
    return wrong + refusals.schema_that_serves_no_older(fleet, before, has_way_back=not arguments.no_way_back)


def replace(fleet: Fleet, old: Node, version: Version) -> Node:
    """A node joins, and the old one ends."""
    node = fleet.launch(version)
    fleet.join(node)
    fleet.pump(BESIDE)
    fleet.leave(old)
    fleet.pump(ALONE)
    return node


def over_redis(stack: contextlib.ExitStack, arguments: argparse.Namespace, before: Version, after: Version) -> int:
    """A publisher, and gateways with and without a database."""
    fleet = Fleet(stack, arguments, "over Redis")
    stream = stack.enter_context(redis.Redis(fleet.cluster))
    fleet.migrate(before, "is now at version")
    fleet.make_tables()
    publishes = {"ROWCAST_PUBLISH": stream.url}
    # with little memory, so that resumes come from entries of either version
    forgets = {"ROWCAST_SUBSCRIBE": stream.url, "ROWCAST_HISTORY_BYTES": str(1 << 16)}

    def candidate(version: Version) -> Node:
        return fleet.launch(version, "candidate", publishes)

    def gateways(version: Version) -> list[Node]:
        return [
            fleet.launch(version, "gateway", forgets),
            fleet.launch(version, "gateway without database", forgets, has_rows=False),
        ]

    publisher, old = candidate(before), gateways(before)
    fleet.join(publisher, *old)
    fleet.open()
    fleet.pump(ALONE)
    fleet.migrate(after, "functions are current")
    # the gateways first: they understand what either publisher writes
    new = gateways(after)
    fleet.join(*new)
    fleet.pump(BESIDE)
    publisher = hand_over(fleet, publisher, candidate(after))
    fleet.pump(BESIDE)
    if not arguments.no_way_back:
        publisher = hand_over(fleet, publisher, candidate(before))
        fleet.pump(BESIDE)
        publisher = hand_over(fleet, publisher, candidate(after))
    for node in old:
        fleet.leave(node)
    fleet.pump(ALONE)
    fleet.leave(publisher)
    later_format(fleet, stream, new, lambda: candidate(after))
    return fleet.conclude()


def hand_over(fleet: Fleet, old: Node, new: Node) -> Node:
    """A candidate joins; it publishes once the one that did has ended."""
    fleet.join(new)
    fleet.leave(old)
    fleet.wait(f"{new.name} publishes", 60, new.is_publisher)
    return new


def later_format(fleet: Fleet, stream: redis.Redis, gateways: list[Node], candidate: Callable[[], Node]) -> None:
    """Entries of a format that no version of today reads, as a publisher of a later one may write; then it is gone back from."""
    over = threading.Event()

    def publish() -> None:
        while not over.wait(0.05):
            stream.command(
                "XADD", redis.STREAM, "*", "at", "of", "to", "later", "kind", "later", "body", "{}", "format", "99"
            )

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        for node in gateways:
            fleet.wait(
                f"{node.name} says that it cannot read a later format",
                60,
                # without a publisher it is not ready after five seconds anyway
                lambda node=node: (
                    "entries of format 99" in node.log.read_text(encoding="utf-8") and not node.is_ready()
                ),
            )
    finally:
        over.set()
        thread.join()
    fleet.join(candidate())
    for node in gateways:
        fleet.wait(f"{node.name} goes on behind entries of a later format", 60, node.is_ready)
        log = node.log.read_text(encoding="utf-8")
        for text in ("entries of format 99", "update this node"):
            if text not in log:
                fleet.complain(
                    f"{node.name} does not say {text!r} of entries of a later format:\n{kit.tail(node.log, 5)}"
                )
    fleet.tell("entries of a later format were said, with a remedy, and gone on with behind them")
    fleet.pump(ALONE)
