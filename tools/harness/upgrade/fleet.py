"""A database that is written all the time, sockets that verify what they get, and nodes of two versions that come and go.

Owns the order in which a node joins and leaves, and what is wrong with a run in the end. Writers, subscribers and the verdict are
the soak's, where a gap is allowed here at no time: nothing is lost, nothing is pruned, and a cursor of either version is good on
both. Knows nothing of Redis.
"""

import argparse
import contextlib
import random
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import cluster as kit
from harness.soak import ending, verdict
from harness.soak.audience import Audience
from harness.soak.faults import Node
from harness.soak.subscription import Subscription
from harness.soak.tables import CHANNELS
from harness.soak.workload import CREW, Crew, bulk

READY_WITHIN = 60.0  # seconds from a node's start until it serves
ENDED_WITHIN = 45.0  # seconds from SIGTERM until it is gone
# half the soak's pace: what counts is which node serves. Without bulk a table stays so small that windows need no index
WRITERS = [(count, 2 * pause, scripts) for count, pause, scripts in CREW if bulk not in scripts]
WATCHED_WITHIN = 90.0  # seconds for a table, whose writers are in the way
SETTINGS = {"ROWCAST_HEARTBEAT_SECONDS": "1", "ROWCAST_DRAIN_SECONDS": "2"}
SHOWN = 4  # mistakes of a subscriber, or lines of a log


@dataclass(frozen=True)
class Version:
    """A program, and what it is called here."""

    name: str
    program: Path

    def run(self, cluster: kit.Cluster, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of it on the database, to its end."""
        return subprocess.run(
            [self.program, *words],
            env={**cluster.env, "DATABASE_URL": cluster.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


class Fleet:
    """What is there in a run. It begins with the schema of `first`, and one node of it, to which the sockets come."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace, name: str) -> None:
        self.name = name
        self.stack = stack
        self.seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
        print(f"{name}: seed {self.seed}", flush=True)
        self._without_pages = arguments.without_pages
        self._rng = random.Random(f"{self.seed}/nodes")
        self.cluster = kit.Cluster(stack, arguments, fsync="off", deadlock_timeout="200ms", max_connections="100")
        self.up: list[Node] = []  # those that a client may come to
        self.nodes: list[Node] = []
        self.mistakes: list[str] = []
        self.began = time.monotonic()
        self.first_schema = 0
        self.audience: Audience
        self.crew: Crew
        self._after = 0

    def make_tables(self) -> None:
        for channel in CHANNELS:
            self.cluster.psql(channel.table, channel.first_rows, f"select rowcast.watch('public.{channel.name}')")
        self.first_schema = self.schema_version()
        self._after = verdict.last_id(self.cluster)

    def open(self) -> None:
        """Lets the sockets in that are there from the first change on, and the writers begin."""
        rows = {channel.name: verdict.table_rows(self.cluster, channel) for channel in CHANNELS}
        self.audience = Audience(self.stack, self.up, self.seed, rows, lambda *_: False)
        if self._without_pages:
            self.audience.clients = [
                client
                for client in self.audience.clients
                if all(type(each) is Subscription for each in client.subscriptions.values())
            ]
        if not self.audience.open(90):
            raise kit.Failure("; ".join(["not everybody was told `subscribed` within 90 s", *self.audience.complaints]))
        self.audience.let_loose(5)
        self.crew = Crew(self.stack, self.cluster, self.seed, False, WRITERS)
        self.crew.start()

    def tell(self, text: str) -> None:
        """A line for the reader."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def complain(self, text: str) -> None:
        self.tell(f"WRONG: {text}")
        self.mistakes.append(text)

    def pump(self, seconds: float) -> None:
        """It goes on like this for so long."""
        self.audience.pump(seconds)
        for node in self.up:
            if node.ended_by_itself() is not None:
                raise kit.Failure(f"{node.name} ended by itself:\n{kit.tail(node.log, 5)}")

    # Nodes

    def launch(
        self, version: Version, kind: str = "", settings: Mapping[str, str] | None = None, has_rows: bool = True
    ) -> Node:
        """Starts a node; no socket comes to it yet."""
        kind = " ".join(filter(None, (version.name, kind)))
        node = Node(
            self.stack,
            self.cluster,
            len(self.nodes),
            {**SETTINGS, **(settings or {})},
            self._rng,
            kind,
            has_rows,
            version.program,
        )
        self.nodes.append(node)
        node.start()
        return node

    def join(self, *nodes: Node) -> None:
        """They are ready, and from now on sockets come to them too."""
        for node in nodes:
            if not self._wait(READY_WITHIN, node.is_ready):
                raise kit.Failure(f"{node.name} is not ready after {READY_WITHIN:.0f} s:\n{kit.tail(node.log, 5)}")
        self.up += nodes
        self.tell(f"sockets come to: {', '.join(node.name for node in self.up)}")

    def leave(self, node: Node) -> None:
        """It is told to end, as by a rolling restart; its sockets move."""
        self.up.remove(node)
        node.signal(signal.SIGTERM)
        if not self._wait(ENDED_WITHIN, node.has_ended):
            self.complain(f"{node.name} is still there {ENDED_WITHIN:.0f} s after SIGTERM")
        self.tell(f"{node.name} has ended")

    def wait(self, what: str, seconds: float, condition: object) -> None:
        if not self._wait(seconds, condition):
            self.complain(f"{what}: not within {seconds:.0f} s")

    def _wait(self, seconds: float, condition: object) -> bool:
        if hasattr(self, "audience"):
            return bool(self.audience.pump(seconds, until=condition))
        deadline = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    # Commands

    def migrate(self, version: Version, expected: str) -> None:
        """Brings the schema to a version; the writers go on. `expected` stands in what it prints."""
        began = time.monotonic()
        done = version.run(self.cluster, "migrate")
        said = (done.stdout + done.stderr).strip().replace("\n", " ")
        self.tell(f"migrate of {version.name}, {time.monotonic() - began:.1f} s: {said[:200]}")
        if done.returncode or expected not in said:
            self.complain(
                f"migrate of {version.name} ended with {done.returncode}, and should say {expected!r}: {said}"
            )

    def watch_again(self) -> None:
        """Brings the tables the triggers of the new version, once no node of the other runs."""
        for channel in CHANNELS:
            began = time.monotonic()
            while not self._is_watched(channel.name):
                self.audience.pump(0.2)
                if time.monotonic() - began > WATCHED_WITHIN:
                    self.complain(f"{channel.name} was not watched anew within {WATCHED_WITHIN:.0f} s")
                    return
        self.tell("each table was watched anew")

    def _is_watched(self, name: str) -> bool:
        try:
            self.cluster.psql(f"select rowcast.watch('public.{name}')")
        except kit.Failure as failure:
            if "lock" not in str(failure):  # a writer that is open for seconds is in the way
                raise
            return False
        return True

    def schema_version(self) -> int:
        return int(self.cluster.psql("select max(version) from rowcast.schema_history"))

    def refused(self, version: Version, command: str, *expected: str) -> None:
        """A command that has to be refused, with a remedy."""
        listen = ("--listen", f"127.0.0.1:{kit.free_port()}") if command == "serve" else ()
        try:
            done = version.run(self.cluster, command, *listen)
        except subprocess.TimeoutExpired:
            self.complain(f"{command} of {version.name} was not refused")
            return
        said = (done.stdout + done.stderr).strip()
        self.tell(f"{command} of {version.name} is refused: {said.splitlines()[-1] if said else ''}")
        if done.returncode == 0 or not all(text in said for text in expected):
            self.complain(
                f"{command} of {version.name} ended with {done.returncode}, and should say {expected}: {said}"
            )

    # The end

    def conclude(self) -> int:
        """Nobody writes any more; how much is wrong."""
        ending.end(self.cluster, self.audience, self.crew)
        verdict.judge_programs(self.nodes, self.crew, self.complain)
        for text in self.audience.complaints:
            self.complain(text)
        for finding in verdict.judge(verdict.truth(self.cluster, self._after), self.audience.subscriptions()):
            self.complain(f"client {finding.client}, {finding.channel}: {finding.mistakes} {finding.evidence[:SHOWN]}")
        moves = self._moves()
        tally = self.audience.tally
        self.tell(
            f"{self.crew.transactions():,} transactions, {tally['messages']:,} messages, {tally['connections']:,} connections, "
            f"{tally['resumed']:,} resumes, {tally['snapshots']:,} snapshots, {tally['source_down']:,} times `source_down`"
        )
        for (old, new), count in moves.items():
            self.tell(f"{count:,} cursors of {old} were understood by {new}")
        if self.mistakes:
            self._show_logs()
        print(f"{'ok' if not self.mistakes else 'WRONG':6} {self.name}", flush=True)
        return len(self.mistakes)

    def _moves(self) -> dict[tuple[str, str], int]:
        """How many cursors of one version were brought to the other. None would prove nothing."""
        moves = {("before", "after"): 0, ("after", "before"): 0}
        for name, count in self.audience.tally.items():
            if found := re.match(r"from (before|after)\b.* to (before|after)\b", name):
                moves[found[1], found[2]] = moves.get((found[1], found[2]), 0) + count
        for (old, new), count in moves.items():
            if not count:
                self.complain(f"no cursor went from {old} to {new}")
        return moves

    def _show_logs(self) -> None:
        for node in self.nodes:
            kit.note(f"\nthe end of {node.name}'s log:\n{kit.tail(node.log, SHOWN * 3)}")
