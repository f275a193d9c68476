"""What goes wrong during the soak: nodes of rowcast that are killed, stopped or cut off, a Postgres that restarts.

Owns the nodes' processes and the schedule of faults, which is made before the run from the seed. Knows nothing of who
writes or listens. A crash of Postgres is not among the faults: what may be lost then is another question.
"""

import http.client
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter

import cluster as kit

KINDS = {
    "none": (),
    "relay": ("kill", "terminate", "cut off"),
    "all": ("kill", "terminate", "cut off", "pause", "restart Postgres"),
}
PAUSE_BETWEEN = 1.5  # seconds from one fault to the next, on average
LUCKY = 3.0  # seconds: a node that ends sooner may have found no database at its start; later it must not end


class Node:
    """A `rowcast serve`, always on the same port, through all of its lives."""

    def __init__(self, stack, cluster, number, settings, rng):
        self.name = f"node {number}"
        self.host, self.port = "127.0.0.1", free_port(rng)
        self.log = cluster.dir / f"rowcast-{number}.log"
        self._command = [cluster.rowcast_program, "serve", "--listen", f"{self.host}:{self.port}"]
        self._env = {**cluster.env, "DATABASE_URL": cluster.url, "ROWCAST_LOG": "info", "ROWCAST_LOG_FORMAT": "human", **settings}
        self._process, self._started, self._asked_to_end = None, 0.0, False
        stack.callback(self.close)

    def start(self):
        """Starts it, after its last life is over."""
        if self._process:
            self._bury(10)
        with open(self.log, "ab") as out:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._env,
                                             start_new_session=True)
        self._started, self._asked_to_end = time.monotonic(), False

    def signal(self, number):
        """Sends it a signal, if it runs."""
        self._asked_to_end |= number in (signal.SIGKILL, signal.SIGTERM)
        if self._process.poll() is None:
            self._process.send_signal(number)

    def ended_by_itself(self):
        """None, or after how many seconds of its life it ended although nobody asked it to."""
        over = self._process.poll() is not None and not self._asked_to_end
        return time.monotonic() - self._started if over else None

    def is_to_run(self):
        """Whether it runs and was not told to end."""
        return self._process.poll() is None and not self._asked_to_end

    def is_ready(self):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def panics(self):
        """Lines of its log that a correct program never writes."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if "panicked at" in line or "task_died" in line]

    def close(self):
        if self._process:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            self._bury(10)

    def _bury(self, seconds):
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            kit.note(f"warning: {self.name} did not end within {seconds} s of SIGTERM")
            self._process.kill()
            self._process.wait()


class Faults(threading.Thread):
    """Carries out the schedule, and starts nodes again that ended by themselves."""

    def __init__(self, stack, cluster, nodes, kind, seed, seconds, complain):
        super().__init__(daemon=True)
        self.counts = Counter()
        self._cluster, self._nodes, self._complain = cluster, nodes, complain
        self._steps = schedule(random.Random(f"{seed}/faults"), KINDS[kind], len(nodes), seconds)
        self._over, self._abandoned = threading.Event(), False
        stack.callback(self.abandon)

    def leave(self):
        """No more faults; the thread ends once all is well again."""
        self._over.set()

    def abandon(self):
        """Returns when the thread starts no more processes, whatever state they are in."""
        self._abandoned = True
        self._over.set()
        if self.is_alive():
            self.join(120)

    def run(self):
        began = time.monotonic()
        try:
            for at, kind, number in self._steps:
                while (wait := began + at - time.monotonic()) > 0 and not self._over.wait(min(wait, 0.2)):
                    self._look_after_nodes()
                if self._over.is_set():
                    break
                self._do(kind, number)
            while not self._over.wait(0.2):
                self._look_after_nodes()
            self._mend()
        except (kit.Failure, OSError) as failure:
            self._complain(f"the faults ended early: {failure}")

    def _do(self, kind, number):
        if kind not in ("start", "continue"):
            self.counts[kind] += 1
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

    def _look_after_nodes(self):
        for node in self._nodes:
            lived = node.ended_by_itself()
            if lived is not None:
                self.counts["a start without database"] += lived < LUCKY
                if lived >= LUCKY:
                    self._complain(f"{node.name} ended by itself after {lived:.1f} s: {kit.tail(node.log, 3)}")
                time.sleep(0.1)
                node.start()

    def _mend(self):
        for node in self._nodes:
            node.signal(signal.SIGCONT)
            if not node.is_to_run():
                node.start()
        deadline = time.monotonic() + 20
        while not all(node.is_ready() for node in self._nodes):
            self._look_after_nodes()
            if self._abandoned:
                return
            if time.monotonic() > deadline:
                self._complain("a node is not ready, although all is well again")
                return
            time.sleep(0.05)


def schedule(rng, kinds, nodes, seconds):
    """(second, what, node or which backends): faults, and what ends them. A node has one fault at a time; two nodes, or a
    node and Postgres, may have theirs together. Each kind comes before any comes again."""
    steps, deck, at = [], [], 0.0
    free = [0.0] * nodes
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
        else:
            number = min(range(nodes), key=lambda each: (free[each] > at, rng.random()))
            begins = max(at, free[number])
            ends = begins + (rng.uniform(1, 3) if kind == "pause" else rng.choice((0, rng.uniform(0, 2))))
            free[number] = ends + 0.5
            steps += [(begins, kind, number), (ends, "continue" if kind == "pause" else "start", number)]
    return sorted(steps, key=lambda step: step[0])


def free_port(rng):
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
