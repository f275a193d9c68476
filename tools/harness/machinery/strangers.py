"""Schemas that nobody here wrote, from packages of Debian and of PyPI: all of their tables are watched, and the same
writes run on a twin without rowcast. Every statement must end alike, both must hold the same rows, what was captured must
balance, every subscriber must have the rows of its table, and after `uninstall` the schema must be what it was.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

from harness.foreign.wire import Connection, Failed

from . import django, writes
from .stage import Database, Stage, Wrong, expect
from .tools import unpacked

FITTING = 0.8  # of all tables, so many must have taken rows, else the writes prove little


def zabbix(_database: Database) -> str:
    file = unpacked("zabbix-server-pgsql") / "usr/share/zabbix-server-pgsql/schema.sql.gz"
    return gzip.decompress(file.read_bytes()).decode("utf-8")


def icingadb(_database: Database) -> str:
    return (unpacked("icingadb") / "usr/share/icingadb/schema/pgsql/schema.sql").read_text(encoding="utf-8")


def mediawiki(_database: Database) -> str:
    folder = unpacked("mediawiki") / "usr/share/mediawiki/maintenance/postgres"
    made = "".join((folder / name).read_text(encoding="utf-8") for name in ("tables-generated.sql", "tables.sql"))
    return re.sub(r"/\*_\*/|/\*i\*/|/\*\$wgDBTableOptions\*/", "", made)


def davical(_database: Database) -> str:
    awl, dba = unpacked("libawl-php") / "usr/share/awl/dba", unpacked("davical") / "usr/share/davical/dba"
    files = (awl / "awl-tables.sql", awl / "schema-management.sql", dba / "davical.sql", dba / "caldav_functions.sql")
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def kamailio(_database: Database) -> str:
    folder = unpacked("kamailio-postgres-modules") / "usr/share/kamailio/postgres"
    names = sorted(folder.glob("*-create.sql"), key=lambda file: (file.name != "standard-create.sql", file.name))
    return "\n".join(file.read_text(encoding="utf-8") for file in names)


def roundcube(_database: Database) -> str:
    return (unpacked("roundcube-core") / "usr/share/roundcube/SQL/postgres.initial.sql").read_text(encoding="utf-8")


def oscar(database: Database) -> str:
    return django.oscar_schema(database.stage)


def trial(load: Callable[[Database], str]) -> Callable[[Stage, ExitStack], str]:
    """The machine of one schema."""
    return lambda stage, stack: run(stage, stack, load)


MACHINES = {each.__name__: trial(each) for each in (oscar, zabbix, mediawiki, icingadb, davical, kamailio, roundcube)}


class Pair:
    """The same statements in two databases."""

    def __init__(self, stack: ExitStack, subject: Database, twin: Database) -> None:
        self.subject, self.twin = self._session(stack, subject), self._session(stack, twin)
        self.count = self.failed = 0

    @staticmethod
    def _session(stack: ExitStack, database: Database) -> Connection:
        made = Connection(database.env["PGHOST"], database.name, database.env["PGUSER"], "UTF8", "utf-8", "application")
        stack.callback(made.close)
        return made

    def run(self, sql: str) -> bool:
        """Runs it in both; whether it changed rows. It must end alike."""
        ends = []
        for session in (self.twin, self.subject):
            try:
                ends.append(session.run(sql).tag)
            except Failed as failed:
                ends.append(f"{failed.state} {failed.message}")
        expect(ends[0], ends[1], f"{sql}\nends otherwise with rowcast")
        self.count += 1
        changed = re.fullmatch(r"(INSERT 0|UPDATE|DELETE) (\d+)", ends[0])
        self.failed += changed is None
        return changed is not None and changed[2] != "0"


def run(stage: Stage, stack: ExitStack, load: Callable[[Database], str]) -> str:
    """The trial."""
    subject = stage.database(stack, load.__name__)
    subject.script(load(subject))
    twin = stage.database(stack, f"{load.__name__}_twin", template=load.__name__)
    before = subject.dump("--schema-only")
    subject.install()
    tables = writes.read(Connection(subject.env["PGHOST"], subject.name, subject.env["PGUSER"], "UTF8", "utf-8").texts)
    schemas = sorted({table.name.partition(".")[0] for table in tables})
    subject.sql(*(f"select rowcast.watch_schema('{schema}')" for schema in schemas))
    # a table called user cannot have a channel of that name: what is printed gives it another one
    subject.sql("select 1", *subject.sql("select remedy from rowcast.unwatched").splitlines())
    expect("", subject.sql('select "table" || $$: $$ || reason from rowcast.unwatched'), "not watched")
    channels = {
        table: channel
        for table, channel in (
            line.split("|") for line in subject.sql("select target::regclass, name from rowcast.channel").splitlines()
        )
    }
    audience = subject.serve()
    keyed = [table for table in tables if table.key]
    of = {table.name: channels[table.name.removeprefix("public.")] for table in tables}
    first = counts(subject, [table.name for table in tables])
    audience.follow_all({of[table.name]: table.key for table in keyed})
    pair = Pair(stack, subject, twin)
    fitting = write(pair, tables)
    if fitting < FITTING * len(tables):
        raise Wrong(f"only {fitting} of {len(tables)} tables took a row")
    same_rows(subject, twin)
    balance(subject, of, first)
    rows = sum(subject.told(table.name, of[table.name]) for table in keyed)
    expect([], audience.errors, "errors of the subscriber")
    expect("", subject.drifts(), "drifts")
    captured = subject.sql("select count(*) from rowcast.outbox")
    subject.audience = None
    audience.close()
    subject.stop()
    subject.sql("select rowcast.uninstall()")
    after = subject.dump("--schema-only")
    if before != after:
        raise Wrong(
            f"pg_dump -s differs after uninstall: {sorted(set(before.splitlines()) ^ set(after.splitlines()))[:6]}"
        )
    return (
        f"{len(tables)} tables, {fitting} took rows, {pair.count:,} statements alike ({pair.failed} refused by the schema), {captured} changes, "
        f"{len(keyed)} subscribers with {rows} rows"
    )


def write(pair: Pair, tables: list[writes.Table]) -> int:
    """All writes; how many tables took a row."""
    fitting = 0
    for table in tables:
        fits = False
        for row in range(writes.ROWS):
            fits |= any(pair.run(table.insert(row, variant)) for variant in range(writes.VARIANTS))
        fitting += fits
    for table in tables:
        for sql in table.updates():
            pair.run(sql)
    for table in reversed(tables):
        pair.run(table.delete())
    return fitting


def same_rows(subject: Database, twin: Database) -> None:
    """Both hold the same, sequences too."""
    words = ("--data-only", "--inserts", "--exclude-schema=rowcast")
    # what triggers and defaults took from the clock differs
    clock = re.compile(rf"'{datetime.now(UTC):%Y-%m}-\d\d[ 0-9:.+]*'")
    mine, its = (sorted(clock.sub("now", database.dump(*words)).splitlines()) for database in (subject, twin))
    if mine != its:
        raise Wrong(f"the tables differ: {sorted(set(mine) ^ set(its))[:4]}")


def counts(database: Database, names: list[str]) -> dict[str, int]:
    """How many rows each table has."""
    found = database.sql(" union all ".join(f"select '{name}', count(*) from {name}" for name in names))
    return {name: int(count) for name, count in (line.rsplit("|", 1) for line in found.splitlines())}


def balance(subject: Database, of: dict[str, str], first: dict[str, int]) -> None:
    """Rows that were there, and were captured as new, but for those captured as gone, are those that are there."""
    told = subject.sql(
        "select c.name, count(*) filter (where o.op = 'I') - count(*) filter (where o.op = 'D') from rowcast.channel c "
        "left join rowcast.outbox o on o.channel = c.id group by 1"
    )
    captured = {name: int(count) for name, count in (line.rsplit("|", 1) for line in told.splitlines())}
    last = counts(subject, list(of))
    for table, channel in of.items():
        expect(last[table], first[table] + captured[channel], f"rows of {table} against what was captured")
