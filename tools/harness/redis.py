"""A private Redis for the benchmarks of the backbone, ended by its own pid, and enough of a client to ask it.

Owns its settings, which are those of docs/explanation/scale.md, and its files. Needs redis-server, version 7, or a Valkey that
ROWCAST_REDIS_SERVER names.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

from harness import cluster as kit

STREAM = "{rowcast}:changes"
# a rewrite of the append-only file in the middle of a run is noise, as a checkpoint of Postgres is
OPTIONS = (
    "--bind",
    "127.0.0.1",
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "everysec",
    "--auto-aof-rewrite-percentage",
    "0",
    "--maxmemory-policy",
    "noeviction",
    "--daemonize",
    "no",
)


class Redis:
    """An empty one; it answers when the constructor returns."""

    def __init__(self, cluster: kit.Cluster) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="redis-", dir=cluster.dir))
        port = kit.free_port()
        self.url, self._address = f"redis://127.0.0.1:{port}", ("127.0.0.1", port)
        log = self._directory / "redis.log"
        self._process = subprocess.Popen(
            [program(), *OPTIONS, "--dir", str(self._directory), "--port", str(port), "--logfile", str(log)],
            env=cluster.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid
        deadline = time.monotonic() + 15
        try:
            while not self._answers():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise kit.Failure(f"redis-server did not start:\n{kit.tail(log) if log.exists() else ''}")
                time.sleep(0.02)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kit.stop(self._process, signal.SIGTERM, "redis-server", 30)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.command("PING") == "PONG"
        return False

    def calls(self) -> dict[str, int]:
        """How often each command was run since the start; those inside of scripts too."""
        lines = (
            line.partition(":calls=") for line in self.command("INFO", "commandstats").splitlines() if ":calls=" in line
        )
        return {name.removeprefix("cmdstat_"): int(rest.partition(",")[0]) for name, _, rest in lines}

    def commands(self) -> int:
        """How many commands were run since the start; those inside of scripts too."""
        lines = self.command("INFO", "stats").splitlines()
        return next(int(line.partition(":")[2]) for line in lines if line.startswith("total_commands_processed:"))

    def command(self, *words: object) -> Any:
        """Runs a command; its answer, in Python's types."""
        with socket.create_connection(self._address, 20) as opened:
            return ask(opened, *words)


def found() -> str | None:
    """redis-server, where there is one."""
    return shutil.which(os.environ.get("ROWCAST_REDIS_SERVER", "redis-server"))


def program() -> str:
    """redis-server."""
    if not (path := found()):
        raise kit.Failure(
            "there is no redis-server on PATH; install Redis 7, or a Valkey and name it in ROWCAST_REDIS_SERVER"
        )
    return path


def version() -> str:
    """As the program says it."""
    return kit.output([program(), "--version"]).strip()


def ask(opened: socket.socket, *words: object) -> Any:
    """Runs a command over a connection; its answer, in Python's types."""
    encoded = [str(word).encode() for word in words]
    opened.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
    with opened.makefile("rb") as answer:
        return read_answer(answer)


def read_answer(answer: BinaryIO) -> Any:
    """An answer of the protocol's second version."""
    line = answer.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("Redis hung up")
    kind, text = line[:1], line[1:-2].decode("utf-8", "replace")
    if kind == b"-":
        raise kit.Failure(f"Redis: {text}")
    if kind == b":":
        return int(text)
    if kind == b"$":
        return None if text == "-1" else answer.read(int(text) + 2)[:-2].decode("utf-8", "replace")
    if kind == b"*":
        return [read_answer(answer) for _ in range(int(text))]
    return text
