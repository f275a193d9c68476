"""The private cluster, the databases of a round made from templates, and the rowcast process on one of them."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import types
import urllib.parse
from pathlib import Path

from harness import cluster as kit

from .charset import Charset
from .wire import Connection, Failed

SUPERUSER = kit.USER


class Stage:
    """One cluster for many rounds."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace, two_phase: bool) -> None:
        self.cluster = kit.Cluster(
            stack,
            arguments,
            fsync="off",
            max_connections="60",
            shared_buffers="128MB",
            deadlock_timeout="300ms",
            autovacuum="on",
            max_prepared_transactions="10" if two_phase else "0",
            checkpoint_timeout="5min",
        )
        self.directory = str(self.cluster.dir)
        self._admin = self.connect("postgres")
        self._templates: dict[tuple[str, str, bool], str] = {}
        self.refused: dict[str, str] = {}  # encodings in which rowcast cannot be installed
        stack.callback(self._admin.close)

    def connect(self, database: str, user: str = "", charset: Charset | None = None, name: str = "") -> Connection:
        """A session, in the charset of the database."""
        return Connection(
            self.directory,
            database,
            user or SUPERUSER,
            charset.name if charset else "UTF8",
            charset.codec if charset else "utf-8",
            name,
        )

    def url(self, database: str, user: str = "") -> str:
        """Where rowcast finds it."""
        return f"postgres://{user or SUPERUSER}@{urllib.parse.quote(self.directory, safe='')}/{database}"

    def create(self, database: str, charset: Charset, option: str, installed: bool) -> None:
        """A database with or without rowcast."""
        template = self._template(charset, option, installed)
        self._admin.run(f"create database {database} template {template}")

    def end_prepared(self, database: str) -> None:
        """Commits what was prepared and left alone."""
        for (gid,) in self._admin.texts(f"select gid from pg_prepared_xacts where database = '{database}'"):
            session = self.connect(database)
            with contextlib.suppress(Failed):
                session.run(f"commit prepared '{gid}'")
            session.close()

    def drop(self, database: str) -> None:
        """The database, whichever session is connected to it; prepared transactions first."""
        self.end_prepared(database)
        self._admin.run(f"drop database if exists {database} with (force)")

    def drop_roles(self, prefix: str) -> None:
        """The roles of a round, whose databases are gone."""
        for (role,) in self._admin.texts(
            f"select quote_ident(rolname) from pg_roles where starts_with(rolname, '{prefix}_')"
        ):
            self._admin.run(f"drop role {role}")

    def _template(self, charset: Charset, option: str, installed: bool) -> str:
        key = (charset.name, option, installed)
        if charset.name in self.refused and installed:
            raise Failed("install", self.refused[charset.name])
        if key not in self._templates:
            name = f"template_{len(self._templates)}"
            self._admin.run(f"create database {name} template template0 encoding '{charset.name}' {option}")
            self._templates[key] = name
            if installed:
                try:
                    self.migrate(name)
                except kit.Failure as failure:
                    self.refused[charset.name] = str(failure)[-600:]
                    raise Failed("install", str(failure)[-600:]) from None
        return self._templates[key]

    def migrate(self, database: str) -> None:
        """Installs rowcast."""
        self.rowcast(database, "migrate")
        self._admin.run("alter role rowcast_relay login")

    def rowcast(self, database: str, *words: str) -> str:
        """Runs a command of rowcast to its end."""
        return kit.output(
            [self.cluster.rowcast_program, *words],
            env={**self.cluster.env, "DATABASE_URL": self.url(database)},
            timeout=30,
        )

    def relay(self, database: str, user: str, flags: tuple[str, ...]) -> Relay:
        """A `rowcast serve`, ready."""
        place = types.SimpleNamespace(
            dir=self.cluster.dir,
            env=self.cluster.env,
            url=self.url(database, user),
            rowcast_program=self.cluster.rowcast_program,
        )
        return Relay(place, "--heartbeat-seconds", "1", "--drain-seconds", "1", "--log-format", "human", *flags)

    def dump(self, database: str) -> list[str] | None:
        """The lines of `pg_dump -s`, or None where there is no pg_dump."""
        program = self.cluster.bin / "pg_dump"
        if not os.access(program, os.X_OK):
            return None
        done = subprocess.run([program, "-s", "-d", database], env=self.cluster.env, capture_output=True, check=False)
        if done.returncode:
            raise kit.Failure(f"pg_dump: {done.stderr.decode('utf-8', 'replace')[-300:]}")
        return [
            line
            for line in done.stdout.decode("utf-8", "replace").splitlines()
            if not line.startswith(("--", "\\restrict", "\\unrestrict"))
        ]


class Relay(kit.Relay):
    """The process, and what it says of itself."""

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether capture is live."""
        with contextlib.suppress(OSError):
            return self._get("/readyz")[0] == 200
        return False

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ends it, by force where it does not listen."""
        if self.is_alive():
            self._process.send_signal(number)
        try:
            self._process.wait(8)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            Path(self.log).unlink()
