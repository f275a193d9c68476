"""What the benchmarks run against: a private Postgres and a real rowcast, both stopped by their own pid.

Owns finding the programs, leaving root, temporary files and the end of every process; knows nothing of what is
measured. Needs Python 3.9 and Postgres 14 to 18 (server, psql and pgbench).
"""

import argparse
import contextlib
import http.client
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from harness.repository import ROOT

PROGRAM = ROOT / "target/release/rowcast"
DATABASE = "bench"
USER = "bench"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Checkpoints happen where a benchmark asks for one, not in the middle of a run. fsync stays on, as it is by default.
SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "min_wal_size": "2GB",  # segments are used again, as on a server that has run for a while
    "checkpoint_timeout": "1h",
    "max_connections": "60",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


class Failure(Exception):
    """Something a user can act on; shown without a traceback."""


def main(benchmark: Callable[[contextlib.ExitStack], int | None]) -> NoReturn:
    """Runs `benchmark(stack)`; whatever it put on the stack ends with it, also on Ctrl-C, SIGTERM and failure."""

    def leave(number: int, _frame: object) -> NoReturn:
        for each in SIGNALS:  # a second Ctrl-C would only leave processes behind
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in SIGNALS:
        signal.signal(number, leave)
    try:
        with contextlib.ExitStack() as stack:
            code = benchmark(stack)
    except Failure as failure:
        print(f"{os.path.basename(sys.argv[0])}: {failure}", file=sys.stderr)
        code = 1
    sys.exit(code)


def skipped(what: str) -> bool:
    """Says what cannot be done here; whether that is a mistake, as it is in CI."""
    print(f"skipped {what}", flush=True)
    return os.environ.get("CI") == "true"


def note(text: str) -> None:
    """Progress, for a reader who waits; the results go to stdout."""
    print(text, file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Arguments that every benchmark has. `several`: --rowcast may be repeated; it is a list, or None where it is not there."""
    parser.add_argument(
        "--rowcast",
        "--binary",
        metavar="FILE",
        type=Path,
        action="append" if several else "store",
        default=None if several else PROGRAM,
        help=f"the program to measure{', may be repeated' if several else ''} (default: target/release/rowcast)",
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a setting of the private Postgres, e.g. synchronous_commit=off; may be repeated",
    )
    parser.add_argument(
        "--dir", metavar="DIR", help="where the private cluster lies while it runs (default: $TMPDIR, else /var/tmp)"
    )


class Cluster:
    """A private Postgres in a temporary directory, reached by its Unix socket alone; superuser bench, database bench."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace, **settings: str) -> None:
        self.settings = {**SETTINGS, **settings}
        for pair in arguments.set:
            name, equals, value = pair.partition("=")
            if not equals:
                raise Failure(f"--set {pair}: write NAME=VALUE")
            self.settings[name] = value
        self.bin = Path(output([ROOT / "scripts/find-postgres"]).strip())
        self.pgbench_program, self.psql_program = self.client("pgbench"), self.client("psql")
        if not os.access(arguments.rowcast, os.X_OK):
            raise Failure(f"there is no {arguments.rowcast}; run: cargo build --release")
        self.rowcast_program = arguments.rowcast
        # it becomes a host name in URLs, where ActiveRecord takes no underscore: mkdtemp puts one into every fifth name
        self.dir = Path(temporary_parent(arguments.dir)) / f"rowcast-bench-{secrets.token_hex(4)}"
        self.dir.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        self._as_server: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = unprivileged_account()
            self._as_server = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self.dir, account.pw_uid, account.pw_gid)
        if is_in_memory(self.dir):
            note(
                f"warning: {self.dir} lies in memory, where fsync costs nothing; name a directory on a disk with --dir"
            )
        # nothing of the caller's environment may change what is measured
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "ROWCAST_", "WEBSOCKET_"))}
        self.env.update(LC_ALL="C", PGHOST=str(self.dir), PGUSER=USER, PGDATABASE=DATABASE, PGAPPNAME="bench")
        self.url = f"postgres://{USER}@{urllib.parse.quote(str(self.dir), safe='')}/{DATABASE}"
        self._start(stack)

    @property
    def pid(self) -> int:
        """Of the server, which all sessions descend from."""
        return self._server.pid

    def client(self, name: str) -> str:
        """Where a client program of Postgres lies, the server's own before another one."""
        for found in (self.bin / name, shutil.which(name)):
            if found and os.access(found, os.X_OK):
                return str(found)
        raise Failure(
            f"there is no {name}, neither in {self.bin} nor on PATH; install Postgres's client and contrib programs"
        )

    def _start(self, stack: contextlib.ExitStack) -> None:
        self.data = data = self.dir / "data"
        run(
            [self.bin / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            cwd=self.dir,
            env=self.env,
            **self._as_server,
        )
        settings = {**self.settings, "listen_addresses": "", "unix_socket_directories": str(self.dir)}
        with open(data / "postgresql.conf", "a", encoding="utf-8") as conf:
            for name, value in settings.items():
                quoted = value.replace("'", "''")
                conf.write(f"{name} = '{quoted}'\n")
        self._server = self._launch(data)
        stack.callback(lambda: stop(self._server, signal.SIGINT, "postgres", 60))
        self._wait_for(["-d", "postgres", "-c", f"create database {DATABASE}"])

    def _launch(self, data: Path) -> subprocess.Popen[bytes]:
        with open(self.dir / "postgres.log", "ab") as out:
            # a session of its own: Ctrl-C is for the benchmark, which then stops everything in order
            return subprocess.Popen(
                [self.bin / "postgres", "-D", data],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.dir,
                env=self.env,
                start_new_session=True,
                **self._as_server,
            )

    def _wait_for(self, statement: list[str]) -> None:
        deadline = time.monotonic() + 30
        while (
            subprocess.run(
                [self.psql_program, "-X", "-q", *statement],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ).returncode
            != 0
        ):
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"the private Postgres did not start:\n{tail(self.dir / 'postgres.log')}")
            time.sleep(0.05)

    def restart(self) -> None:
        """A fast restart: sessions are ended, what was committed stays. Returns when statements run again."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Ends it: sessions are ended, what was committed stays."""
        stop(self._server, signal.SIGINT, "postgres", 60)

    def start(self) -> None:
        """Starts it again after it went down. Returns when statements run."""
        self._server = self._launch(self.data)
        self._wait_for(["-c", "select 1"])

    def psql(self, *statements: str) -> str:
        """Runs statements, each in a transaction of its own; returns what they print, fields parted by |."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return output(
            [self.psql_program, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *commands], env=self.env
        ).rstrip("\n")

    def change(self, name: str, value: str) -> None:
        """Changes a setting that needs no restart; new sessions have it when this returns."""
        self.psql(f"alter system set {name} = '{value}'", "select pg_reload_conf()")
        deadline = time.monotonic() + 10
        while self.psql(f"show {name}") != value:
            if time.monotonic() > deadline:
                raise Failure(f"Postgres did not take over {name} = {value} within 10 s")
            time.sleep(0.02)

    def pgbench(self, *arguments: object) -> str:
        """Runs pgbench and returns its report."""
        return output([self.pgbench_program, *map(str, arguments)], env=self.env)

    def file(self, name: str, text: str) -> Path:
        """Writes a file beside the cluster."""
        path = self.dir / name
        path.write_text(text, encoding="utf-8")
        return path

    def rowcast(self, *arguments: str) -> str:
        """Runs a rowcast command to its end."""
        return output([self.rowcast_program, *arguments], env={**self.env, "DATABASE_URL": self.url})

    def clear_outbox(self) -> None:
        """Empties rowcast's outbox. Only while no relay runs."""
        self.psql("truncate rowcast.outbox_0, rowcast.outbox_1, rowcast.outbox_2")


class Relay:
    """A `rowcast serve` with log level warn and the given flags; ready, when the constructor returns, to serve
    `host:port`."""

    def __init__(self, cluster: Any, *flags: object, port: int | None = None) -> None:
        self._cluster = cluster
        self.host, self.port = "127.0.0.1", port or free_port()
        self.log = cluster.dir / "rowcast.log"
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        env = {
            **cluster.env,
            "DATABASE_URL": cluster.url,
            "ROWCAST_LISTEN": f"{self.host}:{self.port}",
            "ROWCAST_LOG": "warn",
        }
        with open(self.log, "ab") as out:
            self._process = subprocess.Popen(
                [cluster.rowcast_program, "serve", *map(str, flags)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                start_new_session=True,
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + 60
        try:
            while self._get("/readyz")[0] != 200:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise Failure(f"rowcast serve did not become ready:\n{tail(self.log)}")
                time.sleep(0.02)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process, signal.SIGTERM, "rowcast serve", 30)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self._process.wait()

    def status(self) -> dict[str, Any]:
        """The answer of /websocket/status."""
        code, body = self._get("/websocket/status")
        if code != 200:
            raise Failure(f"/websocket/status answers {code}")
        return json.loads(body)

    def source(self) -> dict[str, Any]:
        """How it reads Postgres: that part of the status."""
        return self.status()["source"]

    def wait_until_asleep(self) -> None:
        """A relay starts awake, and one that is awake stays so as long as changes come within a tenth of a second."""
        deadline = time.monotonic() + 5
        while (mode := self.source()["mode"]) != "asleep":
            if time.monotonic() > deadline:
                raise Failure(f"the relay is {mode} although nothing is written; it should sleep")
            time.sleep(0.05)

    def backend(self, purpose: str) -> int:
        """The process of Postgres that serves one of its connections: `read` or `listen`. Only where no other relay runs."""
        pids = self._cluster.psql(f"select pid from pg_stat_activity where application_name like 'rowcast {purpose} %'")
        if not pids.isdigit():
            raise Failure(f"expected one session of rowcast that is to {purpose}, found: {pids.split() or 'none'}")
        return int(pids)

    def cpu_seconds(self) -> float | None:
        """User and system time it has used, or None where /proc does not tell."""
        return cpu_seconds(self.pid)

    def peak_memory(self) -> int | None:
        """The most bytes of memory that it ever held, or None where /proc does not tell."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
            return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
        except (OSError, StopIteration):
            return None

    def warnings(self) -> str:
        """What it logged since it was started."""
        with open(self.log, "rb") as log:
            log.seek(self._log_from)
            return log.read().decode("utf-8", "replace").strip()

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def cpu_seconds(pid: int) -> float | None:
    """User and system time that a process has used, or None where /proc does not tell."""
    return _ticks(Path(f"/proc/{pid}"))


def exact_seconds(pid: int, name: str | None = None) -> float | None:
    """The same of a process whose threads do not end, or of its threads of one name: by the scheduler's nanoseconds, where
    they are counted."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        if name is not None:
            threads = [each for each in threads if (each / "comm").read_text(encoding="utf-8").rstrip("\n") == name]
        with contextlib.suppress(OSError, ValueError, IndexError):
            used = sum(int((each / "schedstat").read_text(encoding="utf-8").split()[0]) for each in threads)
            if used > 0:
                return used / 1e9
    except OSError:
        return None
    ticks = [seconds for each in threads if (seconds := _ticks(each)) is not None]
    return sum(ticks) if ticks else None


def _ticks(folder: Path) -> float | None:
    """What `stat` of a process or a thread says, in steps of a hundredth of a second."""
    try:
        fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None


def stop(process: subprocess.Popen[bytes], number: int, name: str, seconds: float) -> None:
    """Ends a process that we started, gently first."""
    if process.poll() is not None:
        note(f"warning: {name} had ended by itself with code {process.returncode}")
        return
    try:
        process.send_signal(number)
        if process.wait(seconds) != 0:
            note(f"warning: {name} ended with code {process.returncode}")
    except subprocess.TimeoutExpired:
        note(f"warning: {name} did not stop within {seconds} s")
    finally:
        if process.poll() is None:
            # at SIGQUIT postgres ends its own children first; nothing else here has any
            process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def run(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; a failure shows what it wrote."""
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Failure(
            f"{' '.join(map(str, command))}\nended with code {done.returncode}:\n{(done.stderr or done.stdout).strip()}"
        )
    return done


def output(command: Sequence[object], **options: Any) -> str:
    """What a program wrote to stdout."""
    return run(command, **options).stdout


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a file."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def temporary_parent(named: str | None) -> str:
    """/var/tmp rather than /tmp, which lies in memory on many systems."""
    return (
        named or os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir())
    )


def is_in_memory(path: Path) -> bool:
    """Whether a path lies on a tmpfs, as far as /proc tells."""
    best = ("", "")
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            _, mount, kind = line.split()[:3]
            if os.path.commonpath([mount, path]) == mount and len(mount) >= len(best[0]):
                best = (mount, kind)
    return best[1] in ("tmpfs", "ramfs")


def unprivileged_account() -> pwd.struct_passwd:
    """Postgres refuses to run as root."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Failure("Postgres refuses to run as root, and there is neither a user postgres nor nobody")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
