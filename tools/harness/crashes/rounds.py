"""A round: subscribers listen, writers write, the database goes down in one way, and everybody comes back.

Owns the order of the steps and the kinds of faults. Processes are `server`'s and `writers`', what was heard is `streams`',
whether it was right is `judgement`'s.
"""

import argparse
import contextlib
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import cluster as kit
from harness.soak.faults import Node

from .judgement import Truth, choose, decode, judge
from .server import Server, wait_until
from .streams import Stream, in_time
from .writers import TABLE, Writers

SUBSCRIBERS = 2  # at each node
EARLY = 3  # subscribers that come back while the database is down
VETERANS = 4  # cursors of earlier rounds, judged once more
ANSWERED = 30.0  # seconds within which a node is ready, a resume is answered, the last change comes
AFTERGLOW = 0.2  # seconds after that, for what comes twice


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    act: Callable[["Round"], None]  # what happens, from the first write on
    commits: tuple  # values of synchronous_commit, one of which a round has
    may_refuse: bool = True  # a cursor


@dataclass
class Tally:
    """What a kind's rounds came to."""

    count: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)
    evidence: list = field(default_factory=list)


class Campaign:
    """All rounds of a kind, on one cluster."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace, name: str, seed: int) -> None:
        self.kind, self.name, self.seed = KINDS[name], name, seed
        self.tally = Tally()
        self.veterans: deque[Any] = deque(maxlen=3 * VETERANS)  # of the last three rounds
        self.server = Server(stack, arguments)
        self.server.rowcast("migrate")
        self.server.psql(*TABLE)
        self.writers = Writers(stack, self.server)

    def round(self, number: int) -> None:
        with contextlib.ExitStack() as stack:
            one = Round(self, stack, number)
            one.begin()
            self.kind.act(one)
            one.judge()


class Round:
    """One of them. Its methods are the steps of which a fault is made."""

    def __init__(self, campaign: Any, stack: contextlib.ExitStack, number: int) -> None:
        self.campaign, self.number = campaign, number
        self.rng = random.Random(f"{campaign.seed}/{campaign.name}/{number}")
        self.server, self.writers, self.tally = campaign.server, campaign.writers, campaign.tally
        settings = {
            "ROWCAST_HEARTBEAT_SECONDS": "1",
            "ROWCAST_DRAIN_SECONDS": "1",
            "ROWCAST_LOG_BYTES": str(1 << 26),
            # what memory does not hold comes from the outbox
            "ROWCAST_HISTORY_BYTES": str(self.rng.choice((1 << 16, 1 << 26))),
        }
        self.nodes = [Node(stack, self.server, each, settings, self.rng) for each in range(self.rng.choice((1, 2, 2)))]
        self.frozen: set[Any] = set()
        self.stopped: set[Any] = set()
        self.live: list[Stream] = []
        self.early: list[Stream] = []
        self.resumed: list[Stream] = []
        self.cut_off: list[Stream] = []
        stack.callback(self._hang_up)

    # Before the fault

    def begin(self) -> None:
        """Nodes and subscribers are there, and what was before is on disk."""
        self.commit = self.rng.choice(self.campaign.kind.commits)
        self.server.configure(
            synchronous_commit=self.commit, wal_writer_delay=self.rng.choice(("200ms", "200ms", "1s", "5s"))
        )
        self.server.flush()
        self.base = int(self.server.psql("select coalesce(max(id), 0) from rowcast.outbox"))
        self.start_nodes(self.nodes)
        self.live = [Stream(node, self.base) for node in self.nodes for _ in range(SUBSCRIBERS)]
        wait_until(lambda: all(stream.joined.is_set() for stream in self.live), "`subscribed`", ANSWERED)

    def burst(self, near_the_end: Any = None) -> None:
        """They write for a while, and then rest for a while or go on writing. `near_the_end` is called within their
        last 300 ms."""
        length = self.rng.uniform(0.3, 1.5)
        early = min(self.rng.uniform(0, 0.3), length)
        self.writers.begin(self.rng, self.rng.choice((None, 200, 1000)))
        large = self.rng.random() < 0.3
        at = self.rng.uniform(0, length - early)
        time.sleep(at if large else length - early)
        if large:
            self.writers.write_much()
            time.sleep(length - early - at)
        if near_the_end:
            near_the_end()
        time.sleep(early)
        if self.rng.random() < 0.5:
            self.writers.end()
            time.sleep(self.rng.uniform(0, 2.5))

    # While the database is down

    def freeze_one(self) -> None:
        """Sometimes one of two nodes stands still, from before the fault until all is well again."""
        if len(self.nodes) > 1 and self.rng.random() < 0.3:
            self._freeze(self.nodes[-1])

    def hold_log(self) -> None:
        """Mostly more is lost than what the log's writer has just not got to."""
        if self.commit == "off" and self.rng.random() < 0.7:
            self.server.hold_log()

    def worsen(self) -> None:
        self.freeze_one()
        self.hold_log()

    def freeze(self) -> None:
        """Sometimes all nodes stand still from now on: others take the lost transactions' ids before they see anything."""
        if self.rng.random() < 0.5:
            for node in self.nodes:
                self._freeze(node)

    def thaw(self) -> None:
        for node in self.frozen:
            node.signal(signal.SIGCONT)
        self.frozen.clear()

    def _freeze(self, node: Any) -> None:
        node.signal(signal.SIGSTOP)
        self.frozen.add(node)

    def come_back_early(self) -> None:
        """Some notice the fault before their node has recovered from it, and resume at any node."""
        places = in_time(self.live)
        self.early = [
            Stream(self.rng.choice(self.nodes), self.base, self.rng.choice(places[-5:])) for _ in range(EARLY)
        ]

    def stop_nodes(self, nodes: Any) -> None:
        """They end, and their sockets with them."""
        how = self.rng.choice((signal.SIGKILL, signal.SIGTERM))
        for node in nodes:
            node.signal(how)
        for node in nodes:
            node.close()
        self.stopped.update(nodes)

    def start_nodes(self, nodes: Any) -> None:
        """They begin, again or for the first time. Returns when all nodes are ready."""
        for node in nodes:
            node.start()
        wait_until(lambda: all(node.is_ready() for node in self.nodes), "a node that is ready", ANSWERED)

    def write(self, more_than_were_lost: bool = False) -> None:
        """New transactions at once, in relation to those that were lost."""
        self.writers.stop()
        ratio = self.rng.uniform(1.1, 1.5) if more_than_were_lost else self.rng.uniform(0.1, 1.5)
        self.writers.write(self.rng, 20 + int(ratio * self._lost_transactions()))

    def _lost_transactions(self) -> int:
        delivered = {change for stream in self.live for change in stream.changes}
        return len({tx for _, tx, *_ in Truth(self.server, self.base).lost(delivered)})

    # After the fault

    def judge(self) -> None:
        """Cursors are resumed, while somebody writes again; then all that was heard is compared with the outbox."""
        self.thaw()
        for node in self.nodes:
            if node not in self.stopped and not node.is_to_run():
                self._wrong(f"{node.name} ended by itself: {kit.tail(node.log, 3)}")
        self.start_nodes([node for node in self.nodes if not node.is_to_run()])
        bound = int(
            self.server.psql(
                "select coalesce(bound, durable) - '0/0' from rowcast.incarnation order by number desc limit 1"
            )
        )
        chosen = choose(self.rng, self.live, Truth(self.server, self.base), bound)
        veterans = self.rng.sample(list(self.campaign.veterans), min(VETERANS, len(self.campaign.veterans)))
        self.writers.begin(self.rng, 100)
        # a stream whose node hung up before it had an answer comes back with the last cursor that it got
        self._listen_until(lambda stream: stream.joined.is_set(), self.early)
        self.cut_off = [stream.last_place() for stream in self.early if not stream.is_open()]
        self.resumed = [
            Stream(self.rng.choice(self.nodes), self.base, place) for place in chosen + self.cut_off + veterans
        ]
        self._listen_until(lambda stream: stream.joined.is_set(), self.resumed)
        self.writers.end()
        last = self.writers.write_last()
        survivors = [stream for stream in self.live if stream.node not in self.stopped and stream.is_open()]
        returned = self.resumed + [stream for stream in self.early if stream.is_open()]
        self._listen_until(lambda stream: stream.has(last), survivors + returned)
        time.sleep(AFTERGLOW)

        truth = Truth(self.server, min(stream.base for stream in self.live + returned))
        for stream in returned:
            self._count_cursor(stream, judge(stream, truth, last), truth)
        for stream in survivors:
            self._count_socket(stream, judge(stream, truth, last), truth)
        delivered = {change for stream in self.live for change in stream.changes}
        lost = truth.lost(delivered)
        self.tally.count.update(
            {
                "rounds": 1,
                "changes": len(delivered),
                "lost": len(lost),
                "rounds with loss": bool(lost),
                "closed": sum(stream.node not in self.stopped for stream in self.live) - len(survivors),
            }
        )
        for node in self.nodes:
            for line in node.panics():
                self._wrong(f"{node.name}: {line}")
        self.campaign.veterans.extend(self.rng.sample(chosen, min(VETERANS, len(chosen))))

    def _listen_until(self, holds: Any, streams: Any) -> None:
        with contextlib.suppress(kit.Failure):  # a stream that has not come so far is judged by what it has
            wait_until(lambda: all(holds(stream) or not stream.is_open() for stream in streams), "an answer", ANSWERED)

    def _count_cursor(self, stream: Any, verdict: Any, truth: Any) -> None:
        refused = bool(verdict.gaps)
        if refused and not self.campaign.kind.may_refuse:
            verdict.mistakes.append(f"refused ({', '.join(verdict.gaps)}), although nothing can be lost")
        self.tally.count.update(
            {
                "cursors": 1,
                "refused": refused and not verdict.mistakes,
                "honoured": verdict.recovered and not verdict.mistakes,
                "refused needlessly": refused and not truth.lost(stream.place.delivered()),
            }
        )
        self.tally.reasons.update(verdict.gaps)
        self._explain(stream, verdict)

    def _count_socket(self, stream: Any, verdict: Any, truth: Any) -> None:
        self.tally.count.update(
            {
                "sockets": 1,
                "gaps": bool(verdict.gaps),
                "gaps needlessly": bool(verdict.gaps) and not truth.lost(stream.changes),
            }
        )
        self._explain(stream, verdict)

    def _explain(self, stream: Any, verdict: Any) -> None:
        if verdict.mistakes:
            place = stream.place or stream.places[-1]
            what = (
                "resumed early after"
                if stream in self.early
                else "was cut off and came back after"
                if place in self.cut_off
                else "resumed after"
                if stream.place
                else "live, its last message is"
            )
            self._wrong(
                "\n    ".join(
                    [
                        f"{stream.node.name}, {what} {place.message}, {decode(place.cursor)}",
                        *verdict.mistakes,
                        f"lives: {self._lives()}",
                    ]
                )
            )

    def _lives(self) -> Any:
        return self.server.psql(
            "select string_agg(format('%s bound %s durable %s', number, coalesce(bound::text, '-'), durable), '; '"
            " order by number) from (select * from rowcast.incarnation order by number desc limit 4) i"
        )

    def _wrong(self, text: str) -> None:
        self.tally.count["wrong"] += 1
        self.tally.evidence.append(f"{self.campaign.name}, round {self.number}, {text}")

    def _hang_up(self) -> None:
        self.writers.stop()
        self.thaw()
        for stream in self.live + self.early + self.resumed:
            stream.leave()


# Faults ----------------------------------------------------------------------------------------------------------


def crash(a_round: Any) -> None:
    """All processes are killed; the nodes stay."""
    a_round.burst(a_round.worsen)
    a_round.server.kill()
    a_round.freeze()
    a_round.come_back_early()
    a_round.server.start()
    a_round.write()


def backend_crash(a_round: Any) -> None:
    """One process is killed, and the server takes itself through a crash."""
    a_round.burst(a_round.worsen)
    a_round.server.kill_backend()
    a_round.come_back_early()
    a_round.write()


def two_crashes(a_round: Any) -> None:
    """And between them more is written than was lost, while no relay is there to see it."""
    a_round.burst(a_round.hold_log)
    a_round.server.kill()
    a_round.stop_nodes(a_round.nodes)
    a_round.server.start()
    a_round.hold_log()
    a_round.write(more_than_were_lost=True)
    a_round.server.kill()
    a_round.server.start()
    if a_round.rng.random() < 0.5:
        a_round.write()


def crash_then_clean(a_round: Any) -> None:
    """A crash that a clean restart seems to cover up, while no relay is there."""
    a_round.burst(a_round.hold_log)
    a_round.server.kill()
    a_round.stop_nodes(a_round.nodes)
    a_round.server.start()
    a_round.write(more_than_were_lost=True)
    a_round.server.restart()


def promotion(a_round: Any) -> None:
    """The stream to a standby stops for a moment, then the server is gone, and the standby takes its place. Some nodes
    are started again, the others find it by themselves; before it is promoted, as it happens."""
    server, rng = a_round.server, a_round.rng
    server.add_standby()
    end = rng.choice(("sender", "sender", "receiver"))
    a_round.burst(lambda: server.hold_stream(end))
    server.kill()
    a_round.freeze()
    a_round.stop_nodes([node for node in a_round.nodes if rng.random() < 0.5])
    a_round.come_back_early()
    for step in rng.sample((server.promote, server.take_over), 2):
        step()
    a_round.write()


def planned_restart(a_round: Any) -> None:
    """Ends every session and loses nothing."""
    a_round.burst(a_round.freeze_one)
    a_round.server.restart()
    a_round.come_back_early()
    a_round.write()


KINDS = {
    "async-crash": Kind(crash, ("off",)),
    "sync-crash": Kind(crash, ("on",)),
    "backend-crash": Kind(backend_crash, ("on", "off")),
    "two-crashes": Kind(two_crashes, ("off",)),
    "crash-then-clean": Kind(crash_then_clean, ("off",)),
    "promotion": Kind(promotion, ("on", "off")),
    "planned-restart": Kind(planned_restart, ("on", "off"), may_refuse=False),
}
