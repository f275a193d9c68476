"""The backbone of the soak: a private Redis that carries the changes from a publisher to the gateways, its replica, and what
goes wrong with them and on the way to them.

Owns Redis' processes, which nodes there are, and when a gap may be. Knows neither clients nor the schedule of faults. A
failover needs no proxy: Redis can change its port while it runs, so the replica takes the port of the one that was killed.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import Any

from harness import cluster as kit
from harness import redis

from .namespace import Namespace

STREAM = "{rowcast}:changes"
# kind of a node, the setting that makes it one, whether it has a database
FLEET = (
    ("on Postgres", None, True),
    ("publisher", "ROWCAST_PUBLISH", True),
    ("publisher", "ROWCAST_PUBLISH", True),
    ("gateway", "ROWCAST_SUBSCRIBE", True),
    ("gateway without database", "ROWCAST_SUBSCRIBE", False),
)
PUBLISHERS = tuple(number for number, (kind, _, _) in enumerate(FLEET) if kind == "publisher")
SHORT_STREAM = 5  # seconds of retention: so short that a client that was away may come too late
EXCUSED = 30.0  # seconds after a fault of Redis: so long a client may be away that was there before
# fault → the least and the most seconds that it lasts
FAULTS = {
    "restart Redis": (0, 3),
    "kill Redis": (0, 3),
    "lose Redis": (0, 3),
    "flush Redis": (0, 0),
    "stop Redis": (1, 8),
    "pause Redis": (0.5, 4),
    "cut Redis": (0, 0),
    "fill Redis": (1, 5),
    "fail over Redis": (0, 2),
}
PARTITION = "partition"  # between Redis and one of the nodes
PARTED = (0.5, 12)  # seconds
LOSING = ("kill Redis", "lose Redis", "flush Redis", "fill Redis", "fail over Redis")
OPTIONS = (
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "everysec",
    "--maxmemory-policy",
    "noeviction",
    "--repl-diskless-sync-delay",
    "0",
    "--daemonize",
    "no",
)


class Backbone:
    """The Redis at one address, whichever process it is, and a replica of it where `has_replica`."""

    def __init__(
        self, stack: contextlib.ExitStack, directory: Any, ports: Any, retention: Any, has_replica: Any
    ) -> None:
        self._program = shutil.which(os.environ.get("ROWCAST_REDIS_SERVER", "redis-server"))
        if not self._program:
            raise kit.Failure(
                "there is no redis-server on PATH; install Redis 7, or a Valkey and name it in ROWCAST_REDIS_SERVER"
            )
        self._port = ports[0]
        self.retention = retention
        self._failed_at = (
            self._lost_at
        ) = -EXCUSED  # when Redis last had a fault, and one after which the stream may lack something
        self._appended = 0  # to streams that are no more
        self._network = Namespace(stack, len(FLEET)) if Namespace.is_possible() else None
        self._primary = Server(stack, self._program, directory / "redis-0", ports[0], self._network)
        self._primary.start()
        self._replica: Any = None
        if has_replica:
            self._replica = Server(stack, self._program, directory / "redis-1", ports[1], self._network)
            self._replica.start(follows=self._primary)

    def settings(self, number: int, variable: Any) -> dict[Any, Any]:
        """The environment of the node of this number, which such a setting makes part of the backbone."""
        host = self._network.address(number) if self._network else "127.0.0.1"
        url = f"redis://{host}:{self._port}"
        return {variable: url, "ROWCAST_STREAM_RETENTION_SECONDS": str(self.retention)} if variable else {}

    def faults(self) -> tuple[Any, ...]:
        """Those that can be had here."""
        possible = {"fail over Redis": self._replica, PARTITION: self._network}
        return tuple(name for name in (*FAULTS, PARTITION) if possible.get(name, True))

    def excuses_gap(self, kind: Any, reason: str, in_the_stream: Any) -> Any:
        """Whether such a node may tell such a gap now. Only one that cannot read the outbox may, and only of what was in
        Redis and is there no more."""
        if kind != "gateway without database" or reason != "retention":
            return False
        recently = time.monotonic() - EXCUSED
        return (
            self._lost_at > recently
            or self.retention <= SHORT_STREAM
            and (self._failed_at > recently or not in_the_stream)
        )

    def appended(self) -> Any:
        """Entries that were ever appended, as far as Redis has not forgotten some that it lost."""
        return self._appended + self._entries_added()

    def describe(self) -> str:
        """The stream as it is, for the report."""
        used = self._primary.info("memory", "used_memory")
        return f"{self._primary.command('XLEN', STREAM):,} entries, {used / (1 << 20):.0f} MiB used"

    # Faults

    def begin(self, fault: str, seconds: float) -> None:
        """One at a time; `end` follows after so many seconds."""
        self._note(fault)
        primary = self._primary
        if fault == "restart Redis":
            primary.end(signal.SIGTERM)
        elif fault == "kill Redis":
            primary.end(signal.SIGKILL)
        elif fault == "lose Redis":
            self._appended += self._entries_added()
            primary.end(signal.SIGKILL)
            primary.lose_files()
        elif fault == "flush Redis":
            self._appended += self._entries_added()
            primary.command("FLUSHALL")
        elif fault == "stop Redis":
            primary.signal(signal.SIGSTOP)
        elif fault == "pause Redis":
            primary.command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
        elif fault == "cut Redis":
            primary.command("CLIENT", "KILL", "TYPE", "normal")
        elif fault == "fill Redis":
            primary.command("CONFIG", "SET", "maxmemory", primary.info("memory", "used_memory") + (1 << 18))
        elif fault == "fail over Redis":
            self._replica.command("REPLICAOF", "NO", "ONE")  # it lacks what is appended from now on

    def end(self, fault: str) -> None:
        """What puts it right again."""
        self._note(fault)
        primary = self._primary
        if fault in ("restart Redis", "kill Redis", "lose Redis"):
            primary.start()
        elif fault == "stop Redis":
            primary.signal(signal.SIGCONT)
        elif fault == "fill Redis":
            primary.command("CONFIG", "SET", "maxmemory", 0)
        elif fault == "fail over Redis":
            primary.end(signal.SIGKILL)
            primary.lose_files()
            self._replica.take_port_of(primary)
            self._primary, self._replica = self._replica, primary
            self._replica.start(follows=self._primary)

    def part(self, node: Any) -> None:
        """Nothing passes any more between Redis and this node."""
        self._failed_at = time.monotonic()
        self._network.cut(node)

    def join(self, node: Any = None) -> None:
        """This node, or every one, reaches Redis again."""
        for each in range(len(FLEET)) if node is None else [node]:
            if self._network:
                self._network.mend(each)
        self._failed_at = time.monotonic()

    def look_after(self) -> None:
        """Nobody but `begin` ends Redis."""
        for server in filter(None, (self._primary, self._replica)):
            if server.ended_by_itself():
                raise kit.Failure(f"Redis ended by itself: {kit.tail(server.log, 3)}")

    def _note(self, fault: str) -> None:
        self._failed_at = time.monotonic()
        if fault in LOSING:
            self._lost_at = self._failed_at

    def _entries_added(self) -> Any:
        with suppress(kit.Failure):  # there is no stream
            info = self._primary.command("XINFO", "STREAM", STREAM)
            return info[info.index("entries-added") + 1]
        return 0


class Server:
    """One redis-server, through all of its lives; we speak to it over a Unix socket, so its port may change."""

    def __init__(self, stack: contextlib.ExitStack, program: Any, directory: Any, port: int, network: Any) -> None:
        self.port = port
        self._directory, self._socket = directory, directory / "socket"
        self.log = directory.with_suffix(".log")
        place = (
            [*network.enter, program, *OPTIONS, "--protected-mode", "no"]
            if network
            else [program, *OPTIONS, "--bind", "127.0.0.1"]
        )
        self._command = [*place, "--dir", directory, "--unixsocket", self._socket, "--logfile", self.log]
        self._process: subprocess.Popen[bytes] | None = None
        self._is_to_run = False
        directory.mkdir()
        stack.callback(self.end, signal.SIGKILL)

    def start(self, follows: Any = None) -> None:
        """Returns when it answers."""
        leader = ("--replicaof", f"127.0.0.1 {follows.port}") if follows else ()
        self._process = subprocess.Popen(
            [*map(str, self._command), "--port", str(self.port), *leader],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._is_to_run = True
        deadline = time.monotonic() + 30
        while True:
            with suppress(OSError, kit.Failure):  # it is no process yet, or loads what it has
                if self.command("PING") == "PONG":
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise kit.Failure(f"redis-server did not start:\n{kit.tail(self.log) if self.log.exists() else ''}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int) -> None:
        """By this signal, or by force where that takes too long."""
        self._is_to_run = False
        if not self._process:
            return
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ended_by_itself(self) -> Any:
        return self._is_to_run and self._process.poll() is not None

    def lose_files(self) -> None:
        """Once it has ended."""
        for path in self._directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def take_port_of(self, other: Any) -> None:
        """Answers at the port of one that has ended."""
        self.command("CONFIG", "SET", "port", other.port)
        self.port, other.port = other.port, self.port

    def info(self, section: Any, name: str) -> Any:
        """A number of INFO."""
        lines = self.command("INFO", section).splitlines()
        return next(int(line.partition(":")[2]) for line in lines if line.startswith(f"{name}:"))

    def command(self, *words: Any) -> Any:
        """Runs a command; its answer, in Python's types."""
        with socket.socket(socket.AF_UNIX) as opened:
            opened.settimeout(20)
            opened.connect(str(self._socket))
            return redis.ask(opened, *words)
