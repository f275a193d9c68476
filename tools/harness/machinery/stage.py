"""The private Postgres, and a database of it for each machine: how a tool, psql and rowcast reach it.

Owns what runs. Knows no tool.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
import types
import urllib.parse
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness.repository import ROOT

from .audience import WITHIN, Audience, Row

PROJECTS = ROOT / "tests/machinery/projects"
SUPERUSER = {"PGUSER": str(kit.USER)}
TOOL_WITHIN = 300  # seconds for one call of a tool


class Wrong(Exception):
    """What was expected and what was seen."""


class Stage:
    """One cluster for all machines."""

    def __init__(self, stack: ExitStack, arguments: argparse.Namespace, preload: str) -> None:
        self.stack = stack
        self.arguments = arguments
        self.cluster: Any = kit.Cluster(
            stack,
            arguments,
            fsync="off",
            wal_level="logical",
            max_connections="80",
            shared_buffers="128MB",
            autovacuum="off",
            max_wal_size="1GB",
            min_wal_size="80MB",
            shared_preload_libraries=preload,
            **({"cron.database_name": "cron", "cron.use_background_workers": "on"} if preload else {}),
        )
        self.bin = Path(self.cluster.bin)
        self.directory = Path(self.cluster.dir)
        # the last of a cluster's installations takes the roles along, also from one that is just being made
        self.database(stack, "keeper").rowcast("migrate")
        self.major = int(kit.output([self.bin / "postgres", "--version"]).split()[2].split(".")[0])

    def database(self, stack: ExitStack, name: str, owner: str = "", template: str = "template0") -> Database:
        """A new one, empty or like another one."""
        self.cluster.psql(f"create database {name} template {template}" + (f" owner {owner}" if owner else ""))
        return Database(self, stack, name, owner or str(kit.USER))


class Database:
    """A database, with rowcast in it once `install` was called."""

    def __init__(self, stage: Stage, stack: ExitStack, name: str, user: str, place: Path | None = None) -> None:
        self.stage, self.name, self._stack = stage, name, stack
        self.installer = str(kit.USER)  # of rowcast
        self.env: dict[str, str] = {
            **stage.cluster.env,
            "PGHOST": str(place or stage.directory),
            "PGDATABASE": name,
            "PGUSER": user,
            "PGPORT": "5432",
            "PATH": f"{stage.bin}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
        }
        self.url = self.url_of(user)
        self.audience: Audience | None = None
        self.relay: Any = None

    def url_of(self, user: str) -> str:
        """Where that user finds it."""
        return f"postgres://{user}@{urllib.parse.quote(self.env['PGHOST'], safe='')}/{self.name}"

    def folder(self) -> Path:
        """A place for the files of a tool."""
        made = self.stage.directory / f"files-{self.name}"
        made.mkdir(exist_ok=True)
        return made

    def install(self, watch: str = "") -> None:
        """rowcast, and what is to be watched."""
        self.rowcast("migrate")
        self.let_log_in()
        if watch:
            self.sql(watch)

    def let_log_in(self) -> None:
        """The server logs in as rowcast_relay, with the least rights."""
        self.sql("alter role rowcast_relay login")

    def typed(self, text: str) -> str:
        """What a block of a guide prints when it is typed, with the database in the environment and rowcast on the path."""
        programs = Path(self.stage.cluster.rowcast_program).resolve().parent
        env = {
            "PGUSER": self.installer,
            "PATH": f"{programs}:{self.env['PATH']}",
            "DATABASE_URL": self.url_of(self.installer),
        }
        return self.tool(["sh", "-euc", text], env=env, cwd=self.folder())

    def serve(self, *flags: str) -> Audience:
        """A server, and a subscriber that follows tables there."""
        self.start(*flags)
        self.audience = Audience(f"http://127.0.0.1:{self.relay.port}")
        self._stack.callback(self.audience.close)
        return self.audience

    def start(self, *flags: str, port: int | None = None) -> None:
        """The server alone."""
        place = types.SimpleNamespace(
            dir=self.folder(),
            env=self.env,
            url=self.url_of("rowcast_relay"),
            rowcast_program=self.stage.cluster.rowcast_program,
        )
        self.relay = kit.Relay(place, "--heartbeat-seconds", "1", "--drain-seconds", "1", *flags, port=port)
        self._stack.callback(self.stop)

    def stop(self) -> None:
        """Ends the server."""
        if self.relay is not None:
            self.relay.__exit__()
            self.relay = None

    def sql(self, *statements: str, env: Mapping[str, str] | None = None) -> str:
        """What statements of a superuser print, each in a transaction of its own."""
        commands = [part for statement in statements for part in ("-c", statement)]
        psql = [self.stage.cluster.psql_program, "-XqAt", "-v", "ON_ERROR_STOP=1"]
        return self.tool([*psql, *commands], env={**SUPERUSER, **(env or {})}).rstrip("\n")

    def script(self, text: str) -> str:
        """What a script prints, which ends at its first error."""
        return self.tool(
            [self.stage.cluster.psql_program, "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-"], env=SUPERUSER, feed=text
        )

    def rows(self, table: str, hidden: str = "") -> list[Row]:
        """All rows of a table, as rowcast tells them: without the column that is excluded."""
        text = self.sql(
            "set timezone = 'UTC'",
            "set bytea_output = hex",
            f"select coalesce(json_agg(row_to_json(t)), '[]') from {table} t",
        )
        found: list[Row] = json.loads(text)
        return [{name: value for name, value in row.items() if name != hidden} for row in found]

    def rowcast(self, *words: str) -> str:
        """A command of rowcast."""
        return self.tool([self.stage.cluster.rowcast_program, *words], env={"DATABASE_URL": self.url_of(str(kit.USER))})

    def tool(
        self,
        command: list[Any],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        fails: bool = False,
        feed: str = "",
        within: int = TOOL_WITHIN,
    ) -> str:
        """Runs a program on this database to its end; what it wrote. One that `fails` as is expected tells what it said."""
        done = subprocess.run(
            [str(part) for part in command],
            env={**self.env, **(env or {})},
            cwd=cwd,
            input=feed,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if (done.returncode != 0) != fails:
            raise Wrong(
                f"{' '.join(map(str, command))[:300]} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-2500:]}"
            )
        return done.stdout + done.stderr if fails else done.stdout

    def follow(self, table: str, channel: str, key: str = "id", hidden: str = "") -> None:
        """A subscriber of a channel, who must show the rows of the table."""
        assert self.audience is not None
        self.audience.follow(channel, key)
        self.told(table, channel, hidden)

    def told(self, table: str, channel: str, hidden: str = "") -> int:
        """Waits until the subscriber shows the table's rows; how many."""
        assert self.audience is not None
        return self.audience.come_to(channel, lambda: self.rows(table, hidden))

    def comes_to(self, sql: str, value: str) -> None:
        """Waits until a statement says so."""
        deadline = time.monotonic() + WITHIN
        while (seen := self.sql(sql)) != value:
            if time.monotonic() > deadline:
                raise Wrong(f"{sql}\n  does not come to {value!r}, but to {seen!r}")
            time.sleep(0.1)

    def drifts(self) -> str:
        """What `rowcast.watched` says is wrong."""
        return self.sql("select channel || ': ' || drift from rowcast.watched where drift is not null order by 1")

    def dump(self, *words: str) -> str:
        """The lines of `pg_dump` that tell something, without those that differ each time."""
        text = self.tool([self.stage.bin / "pg_dump", *words], env=SUPERUSER)
        return "\n".join(
            line for line in text.splitlines() if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))
        )


def expect(wanted: object, seen: object, what: str) -> None:
    """What is to be equal."""
    if wanted != seen:
        raise Wrong(f"{what}\n  wanted: {wanted!r}\n  seen:   {seen!r}")
