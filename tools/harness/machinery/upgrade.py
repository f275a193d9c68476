"""pg_upgrade from 14 to 18: channels are off and nothing is told until they are taken over, then the
client that was there all the time has the rows again.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path

from harness import cluster as kit

from .guides import blocks
from .stage import Database, Stage, Wrong, expect
from .tools import postgres_14_and_18

TABLES = (
    "create table pets (gone int, id int primary key, name text, chip text)",
    "alter table pets drop column gone",
    "insert into pets (id, name, chip) select n, 'pet ' || n, 'S3CR3T' from generate_series(1, 100) n",
    "create table visits (id int, day date, primary key (id, day)) partition by range (day)",
    "create table visits_old partition of visits for values from ('2020-01-01') to ('2024-01-01')",
    "create table visits_new partition of visits default",
    "insert into visits select n, date '2023-12-01' + n from generate_series(1, 60) n",
)
VERSION = "select current_setting('server_version_num')::int / 10000"


class Server:
    """A cluster of one version, reached by a socket in `place`."""

    def __init__(self, stage: Stage, stack: ExitStack, programs: Path, name: str, place: Path) -> None:
        self.stage, self.programs, self.data, self.place = stage, programs, stage.directory / name, place
        self.running = False
        options = ["-U", str(kit.USER), "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        # 18 sums up its pages unless told not to, and both have to do the same
        if "--no-data-checksums" in kit.output([programs / "initdb", "--help"]):
            options.append("--no-data-checksums")
        self.call([programs / "initdb", "-D", self.data, *options])
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self.place}'\nfsync = off\nshared_buffers = '32MB'\n"
            )
        stack.callback(self.stop)

    def call(self, command: list[object], cwd: Path | None = None) -> str:
        """A program of Postgres, as the user that may run it."""
        return str(
            kit.output(
                command,
                cwd=cwd or self.stage.directory,
                env=self.stage.cluster.env,
                timeout=600,
                **self.stage.cluster._as_server,
            )
        )

    def start(self) -> None:
        """Returns when statements run."""
        self.call(
            [
                self.programs / "pg_ctl",
                "-D",
                self.data,
                "-l",
                self.stage.directory / f"{self.data.name}.log",
                "-w",
                "start",
            ]
        )
        self.running = True

    def stop(self) -> None:
        """At once, as before an upgrade."""
        if self.running:
            self.running = False
            self.call([self.programs / "pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop"])


def run(stage: Stage, stack: ExitStack) -> str:
    """The machine."""
    old_programs, new_programs = postgres_14_and_18()
    place = stage.directory / "upgrade"
    subprocess.run(["install", "-d", "-o", stage.directory.owner(), place], check=True)
    old, new = Server(stage, stack, old_programs, "old", place), Server(stage, stack, new_programs, "new", place)
    old.start()
    database = Database(stage, stack, "bench", str(kit.USER), place)
    database.tool([stage.bin / "createdb", "bench"])
    expect("14", database.sql(VERSION), "the version before")
    database.sql(*TABLES)
    database.install(
        "select rowcast.watch('pets', exclude => '{chip}'), rowcast.watch('visits'); select rowcast.keep_briefly('visits')"
    )
    audience = database.serve()
    database.follow("pets", "pets", hidden="chip")
    audience.follow("visits", ["id", "day"])
    database.sql("update pets set name = 'told' where id < 10")
    database.told("pets", "pets", hidden="chip")
    port = database.relay.port
    database.stop()
    old.stop()
    upgrade = [
        new_programs / "pg_upgrade",
        "--old-bindir",
        old_programs,
        "--new-bindir",
        new_programs,
        "--old-datadir",
        old.data,
        "--new-datadir",
        new.data,
    ]
    try:
        new.call([*upgrade, "--username", kit.USER, "--socketdir", place, "--no-sync"], cwd=place)
    except kit.Failure as failure:
        logs = "".join(log.read_text(encoding="utf-8") for log in new.data.glob("pg_upgrade_output.d/*/log/*.log"))
        raise Wrong(f"{str(failure)[-300:]}\n{logs.partition('pg_restore: error')[2][:1500]}") from None
    new.start()
    expect("18", database.sql(VERSION), "the version")
    before = database.sql("select count(*) from rowcast.watched where state <> 'live'")
    expect("2", before, "channels that are off before they are taken over")
    database.sql("insert into pets (id, name) values (1000, 'before it is taken over')")
    adopted = ""
    for text in blocks("dumps-and-upgrades.md", "sh"):
        if "adopt" in text:
            adopted = database.typed(text)
    if adopted.count("adopted") != 2:
        raise Wrong(f"the commands of the guide print: {adopted}")
    expect("", database.drifts(), "drifts once they are taken over")
    database.start(port=port)
    database.sql(
        "insert into pets (id, name, chip) values (1001, 'and after it', 'S3CR3T')", "delete from visits where id < 5"
    )
    count = database.told("pets", "pets", hidden="chip") + database.told("visits", "visits")
    if "S3CR3T" in database.sql("select coalesce(string_agg(o::text, ''), '') from rowcast.outbox o"):
        raise Wrong("an excluded column was captured")
    expect([], [error for error in audience.errors if "source_down" not in error], "errors of the subscriber")
    return f"from 14 to 18; two channels taken over, {count} rows told to the subscriber that was there before"
