"""What goes wrong during the soak: nodes of rowcast that are killed, stopped or cut off, a Postgres that restarts, a Redis
between them that fails in its own ways.

Owns the nodes' processes and the schedule of faults, which is made before the run from the seed. Knows nothing of who
writes or listens; what is done to Redis is the backbone's. A crash of Postgres is not among the faults: what may be lost
then is another question.
"""

import contextlib
import http.client
import json
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from harness import cluster as kit

from .backbone import FAULTS as OF_REDIS
from .backbone import FLEET, PARTED, PARTITION, PUBLISHERS

KINDS = {
    "none": (),
    "relay": ("kill", "terminate", "cut off"),
    "all": ("kill", "terminate", "cut off", "pause", "restart Postgres"),
}
OF_PUBLISHERS = ("kill publisher", "pause publisher", "fence publisher")
PAUSE_BETWEEN = 1.5  # seconds from one fault to the next, on average
LUCKY = 3.0  # seconds: a node that ends sooner may have found no database at its start; later it must not end
PUBLISHER = -1  # instead of a node's number: the publisher that has a fault
LUCKY_WITH_REDIS = 12.0  # the same: it waits for a Redis that stands still, and then tries no more


def kinds_of(text: str, backbone: Any) -> Any:
    """The faults that a name stands for, or those that are listed with commas."""
    if text in KINDS:
        if not backbone or text == "none":
            return KINDS[text]
        return (*KINDS[text], *OF_PUBLISHERS, *(backbone.faults() if text == "all" else ()))
    kinds = tuple(filter(None, text.split(",")))
    known = (*KINDS["all"], *(OF_PUBLISHERS if backbone else ()), *(backbone.faults() if backbone else ()))
    for kind in kinds:
        if kind not in known:
            raise kit.Failure(f"--faults: {kind!r} is none of {', '.join((*KINDS, *known))}")
    return kinds


class Node:
    """A `rowcast serve`, always on the same port, through all of its lives."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        cluster: kit.Cluster,
        number: int,
        settings: Any,
        rng: random.Random,
        kind: str = "",
        has_rows: bool = True,
        program: Path | None = None,
    ) -> None:
        self.name = f"node {number}" + (f" ({kind})" if kind else "")
        self.kind, self.has_rows = kind, has_rows
        self.may_end_within = LUCKY_WITH_REDIS if kind else LUCKY
        self.host, self.port = "127.0.0.1", free_port(rng)
        self.log = cluster.dir / f"rowcast-{number}.log"
        self._command = [program or cluster.rowcast_program, "serve", "--listen", f"{self.host}:{self.port}"]
        self._env = {
            **cluster.env,
            "DATABASE_URL": cluster.url,
            "ROWCAST_LOG": "info",
            "ROWCAST_LOG_FORMAT": "human",
            **settings,
        }
        if not has_rows:
            self._env = {
                name: value for name, value in self._env.items() if name != "DATABASE_URL" and not name.startswith("PG")
            }
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._asked_to_end = 0.0, False
        stack.callback(self.close)

    def start(self) -> None:
        """Starts it, after its last life is over."""
        if self._process:
            self._bury(10)
        with open(self.log, "ab") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._env, start_new_session=True
            )
        self._started, self._asked_to_end = time.monotonic(), False

    def signal(self, number: int) -> None:
        """Sends it a signal, if it runs."""
        self._asked_to_end |= number in (signal.SIGKILL, signal.SIGTERM)
        if self._process.poll() is None:
            self._process.send_signal(number)

    def ended_by_itself(self) -> Any:
        """None, or after how many seconds of its life it ended although nobody asked it to."""
        over = self._process.poll() is not None and not self._asked_to_end
        return time.monotonic() - self._started if over else None

    def is_to_run(self) -> Any:
        """Whether it runs and was not told to end."""
        return self._process.poll() is None and not self._asked_to_end

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def is_ready(self) -> bool:
        return self._get("/readyz")[0] == 200

    def is_publisher(self) -> Any:
        """Whether it says that it writes the stream."""
        code, body = self._get("/websocket/status")
        return code == 200 and json.loads(body)["source"]["publishing"]

    def _get(self, path: str) -> tuple[Any, ...]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=1)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def panics(self) -> list[Any]:
        """Lines of its log that a correct program never writes."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return [
            line
            for line in text.splitlines()
            if any(word in line for word in ("panicked at", "task_died", "entry_malformed"))
        ]

    def close(self) -> None:
        if self._process:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            self._bury(10)

    def _bury(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            kit.note(f"warning: {self.name} did not end within {seconds} s of SIGTERM")
            self._process.kill()
            self._process.wait()


class Faults(threading.Thread):
    """Carries out the schedule, and starts nodes again that ended by themselves."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        cluster: kit.Cluster,
        nodes: Any,
        kinds: Any,
        seed: int,
        seconds: float,
        complain: Any,
        backbone: Any = None,
    ) -> None:
        super().__init__(daemon=True)
        self.counts: Counter[Any] = Counter()
        self.journal: list[Any] = []  # (when, what)
        self._cluster, self._nodes, self._complain, self._backbone = cluster, nodes, complain, backbone
        self._steps = schedule(random.Random(f"{seed}/faults"), kinds, len(nodes), seconds)
        self._of_redis: Any = None  # the fault that Redis has
        self._hit = 0  # number of the publisher that has one
        self._over, self._abandoned = threading.Event(), False
        stack.callback(self.abandon)

    def leave(self) -> None:
        """No more faults; the thread ends once all is well again."""
        self._over.set()

    def abandon(self) -> None:
        """Returns when the thread starts no more processes, whatever state they are in."""
        self._abandoned = True
        self._over.set()
        if self.is_alive():
            self.join(120)

    def run(self) -> None:
        began = time.monotonic()
        try:
            for at, kind, number in self._steps:
                while (wait := began + at - time.monotonic()) > 0 and not self._over.wait(min(wait, 0.2)):
                    self._look_after()
                if self._over.is_set():
                    break
                self._do(kind, number)
            while not self._over.wait(0.2):
                self._look_after()
            self._mend()
        except (kit.Failure, OSError) as failure:
            self._complain(f"the faults ended early: {failure}")

    def _do(self, kind: Any, number: int) -> None:
        if kind not in ("start", "continue", "mend Redis", "join"):
            self.counts[kind] += 1
        if number == PUBLISHER:
            number = self._hit
        if kind in OF_PUBLISHERS:
            self._hit = number = next((each for each in PUBLISHERS if self._nodes[each].is_publisher()), number)
        of = self._of_redis or "Redis" if kind == "mend Redis" else f"{number:.1f} s" if kind in OF_REDIS else number
        self.journal.append((time.monotonic(), f"{kind}: {of}"))
        if kind == "start":
            self._nodes[number].start()
        elif kind == "kill":
            self._nodes[number].signal(signal.SIGKILL)
        elif kind == "terminate":
            self._nodes[number].signal(signal.SIGTERM)
        elif kind == "pause":
            self._nodes[number].signal(signal.SIGSTOP)
        elif kind == "continue":
            self._nodes[number].signal(signal.SIGCONT)
        elif kind == "restart Postgres":
            self._cluster.restart()
        elif kind == "cut off":
            # number: which of them, two bits for every fourth pid
            self._cluster.psql(f"""select pg_terminate_backend(pid) from pg_stat_activity
                where application_name like 'rowcast %' and ({number} >> pid % 4 & 1) = 1""")
        elif kind in OF_PUBLISHERS:
            self._nodes[number].signal(signal.SIGKILL if kind == "kill publisher" else signal.SIGSTOP)
            if kind == "fence publisher":  # its lock is free: another candidate writes before it wakes
                self._cluster.psql(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'rowcast publish %'"
                )
        elif kind == PARTITION:
            self._backbone.part(number)
        elif kind == "join":
            self._backbone.join(number)
        elif kind in OF_REDIS:
            self._of_redis = kind
            self._backbone.begin(kind, number)
        elif kind == "mend Redis":
            self._mend_redis()

    def _mend_redis(self) -> None:
        if self._of_redis:
            self._backbone.end(self._of_redis)
        self._of_redis = None

    def _look_after(self) -> None:
        if self._backbone:
            self._backbone.look_after()
        for node in self._nodes:
            lived = node.ended_by_itself()
            if lived is not None:
                self.counts["a start without database"] += lived < node.may_end_within
                if lived >= node.may_end_within:
                    self._complain(f"{node.name} ended by itself after {lived:.1f} s: {kit.tail(node.log, 3)}")
                time.sleep(0.1)
                node.start()

    def _mend(self) -> None:
        self._mend_redis()
        if self._backbone:
            self._backbone.join()
        for node in self._nodes:
            node.signal(signal.SIGCONT)
            if not node.is_to_run():
                node.start()
        deadline = time.monotonic() + 60
        while not all(node.is_ready() for node in self._nodes):
            self._look_after()
            if self._abandoned:
                return
            if time.monotonic() > deadline:
                self._complain("a node is not ready, although all is well again")
                return
            time.sleep(0.05)


def schedule(rng: random.Random, kinds: Any, nodes: Any, seconds: float) -> list[Any]:
    """(second, what, node or which backends or for how long): faults, and what ends them. A node has one fault at a time,
    and so has Redis; two nodes, or a node and Postgres or Redis, may have theirs together. Each kind comes before any
    comes again."""
    deck: list[str] = []
    steps: list[tuple[float, str, Any]] = []
    at = 0.0
    free, redis_is_free = [0.0] * nodes, 0.0
    while kinds:
        at += 0.3 + rng.expovariate(1 / PAUSE_BETWEEN)
        if at > seconds - 2:
            break
        deck = deck or rng.sample(kinds, len(kinds))
        kind = deck.pop()
        if kind == "restart Postgres":
            steps.append((at, kind, 0))
        elif kind == "cut off":
            steps.append((at, kind, rng.randrange(1, 16)))
        elif kind in OF_REDIS:
            begins, lasts = max(at, redis_is_free), rng.uniform(*OF_REDIS[kind])
            redis_is_free = begins + lasts + 0.5
            steps += [(begins, kind, lasts), (begins + lasts, "mend Redis", 0)]
        elif kind == PARTITION:
            number = rng.choice([each for each, (_, variable, _) in enumerate(FLEET) if variable])
            begins = max(at, free[number])
            ends = begins + rng.uniform(*PARTED)
            free[number] = ends + 0.5
            steps += [(begins, kind, number), (ends, "join", number)]
        elif kind in OF_PUBLISHERS:
            begins = max(at, *(free[each] for each in PUBLISHERS))
            ends = begins + (rng.uniform(0, 2) if kind == "kill publisher" else rng.uniform(3, 10))
            for each in PUBLISHERS:
                free[each] = ends + 0.5
            steps += [
                (begins, kind, rng.choice(PUBLISHERS)),
                (ends, "start" if kind == "kill publisher" else "continue", PUBLISHER),
            ]
        else:
            number = min(range(nodes), key=lambda each: (free[each] > at, rng.random()))
            begins = max(at, free[number])
            ends = begins + (rng.uniform(1, 3) if kind == "pause" else rng.choice((0, rng.uniform(0, 2))))
            free[number] = ends + 0.5
            steps += [(begins, kind, number), (ends, "continue" if kind == "pause" else "start", number)]
    return sorted(steps, key=lambda step: step[0])


def free_port(rng: random.Random) -> Any:
    """A port below those that the kernel gives to clients: one of ours may not take it while its node is down."""
    while True:
        port = rng.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
