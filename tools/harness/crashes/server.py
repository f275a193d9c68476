"""A private Postgres that goes down in every way there is, and the standby that takes over from it.

Owns the servers' processes, and which of them answers at the cluster's address. Knows nothing of rowcast. Processes are
killed by their pids, which come from /proc: only children of a postmaster that was started here. Needs Linux.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from harness import cluster as kit

SOCKET = ".s.PGSQL.5432"
PATIENCE = 30.0  # seconds for whatever a server is waited for


class Server(kit.Cluster):
    """A cluster whose address stays, whichever server answers: it is a socket file, and may come to be a link to another's."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace, **settings: Any) -> None:
        self._standby: subprocess.Popen[bytes] | None = None
        self._home: Path | None = None
        self._held: list[Any] = []  # processes that were stopped, and still are
        self._standbys = 0
        super().__init__(stack, arguments, port="5432", **settings)
        stack.callback(self._dismiss_standby)
        stack.callback(self._release)

    def configure(self, **settings: Any) -> None:
        """Changes settings while the server runs; a standby made later has them too."""
        self.psql(
            *(f"alter system set {name} = '{value}'" for name, value in settings.items()), "select pg_reload_conf()"
        )
        wait_until(
            lambda: all(self.psql(f"show {name}") == value for name, value in settings.items()),
            "settings that were changed",
        )

    def flush(self) -> None:
        """Everything that was committed so far is on disk."""
        self.psql(
            "begin; set local synchronous_commit = on; select pg_logical_emit_message(true, 'crashes', ''); commit"
        )

    # Crashes

    def hold_log(self) -> None:
        """Nothing is written to the log any more but for synchronous commits: a crash loses what comes from now on."""
        self._hold(self.psql("select pid from pg_stat_activity where backend_type = 'walwriter'"))

    def kill(self) -> None:
        """As if the machine were gone: all processes at once, none writes anything more."""
        postmaster = self._server
        postmaster.send_signal(signal.SIGSTOP)  # it shall neither start new ones nor tell the others
        children = children_of(postmaster.pid)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        postmaster.kill()
        postmaster.wait()
        wait_until(lambda: not any(map(is_alive, children)), "the end of killed processes")
        self._held = [pid for pid in self._held if pid not in children]
        self._release()  # a standby's receiver goes on with what had reached its socket

    def kill_backend(self) -> None:
        """One backend, a writer's if there is one; the server ends all others and begins anew. Returns when it has."""
        before, victim = self.psql(
            "select (select pid from pg_stat_activity where backend_type = 'checkpointer'), pid from pg_stat_activity"
            " where backend_type = 'client backend' and pid <> pg_backend_pid() order by application_name = 'writer' desc limit 1"
        ).split("|")
        if int(victim) not in children_of(self._server.pid):
            raise kit.Failure(f"{victim} is no child of the private Postgres")
        os.kill(int(victim), signal.SIGKILL)
        time.sleep(0.1)  # a process that is held has been told to end: it does that before anything else
        self._release()
        wait_until(lambda: self._checkpointer() not in (None, before), "the server, which begins anew")

    def _checkpointer(self) -> Any:
        with contextlib.suppress(kit.Failure):
            return self.psql("select pid from pg_stat_activity where backend_type = 'checkpointer'")
        return None

    # Failover

    def add_standby(self) -> None:
        """An asynchronous standby that has everything so far, and streams."""
        self._standbys += 1
        self._home = self.dir / f"standby-{self._standbys}"
        self._home.mkdir()
        if self._as_server:
            os.chown(self._home, self._as_server["user"], self._as_server["group"])
        data = self._home / "data"
        kit.run(
            [self.bin / "pg_basebackup", "-D", data, "-R", "-c", "fast", "-X", "stream", "--no-sync"],
            cwd=self._home,
            env=self.env,
            **self._as_server,
        )
        with open(data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(f"unix_socket_directories = '{self._home}'\n")
        self._standby = self._launch(data)
        here = self.psql("select pg_current_wal_flush_lsn()")
        wait_until(
            lambda: (
                self.psql(
                    f"select count(*) from pg_stat_replication where state = 'streaming' and replay_lsn >= '{here}'"
                )
                == "1"
            ),
            "the standby",
        )

    def hold_stream(self, end: Any) -> None:
        """Nothing reaches the standby any more. Where its `sender` stands still and the server is killed, that is lost; of
        the `receiver`, what has not come to its socket."""
        self._hold(
            self.psql("select pid from pg_stat_replication")
            if end == "sender"
            else self._psql_of_standby("select pid from pg_stat_wal_receiver")
        )

    def take_over(self) -> None:
        """From now on it is the standby that answers at the address of the server, which was killed."""
        link = self.dir / "link"
        link.symlink_to(self._home / SOCKET)
        os.replace(link, self.dir / SOCKET)
        self._server, self._standby = self._standby, None
        self.data = self._home / "data"

    def promote(self) -> None:
        """The standby becomes a server that takes writes, before or after it has taken over."""
        kit.run(
            [self.bin / "pg_ctl", "promote", "-w", "-t", int(PATIENCE), "-D", self._home / "data"],
            cwd=self._home,
            env=self.env,
            **self._as_server,
        )

    def _hold(self, pid: int | str) -> None:
        os.kill(int(pid), signal.SIGSTOP)
        self._held.append(int(pid))

    def _release(self) -> None:
        while self._held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._held.pop(), signal.SIGCONT)

    def _psql_of_standby(self, statement: str) -> str:
        return kit.output(
            [self.psql_program, "-X", "-q", "-A", "-t", "-h", self._home, "-c", statement], env=self.env
        ).strip()

    def _dismiss_standby(self) -> None:
        if self._standby:
            kit.stop(self._standby, signal.SIGINT, "the standby", 30)


def children_of(parent: Any) -> Any:
    """The pids of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state = state_of(entry.name)
            if state and int(state[1]) == parent:
                found.append(int(entry.name))
    return found


def is_alive(pid: int) -> Any:
    """Whether there is such a process; one that nobody has buried yet is none."""
    state = state_of(pid)
    return bool(state) and state[0] not in "ZX"


def state_of(pid: int | str) -> list[str]:
    """The fields of /proc/{pid}/stat from the state on; nothing where there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return []


def wait_until(condition: Any, what: str, seconds: float = PATIENCE) -> None:
    """Returns when it holds; a failure where it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise kit.Failure(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.02)
