"""A round as plain data: every list of it may lose members and still be a round, which is how a finding is shrunk."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from . import settings, writing
from .application import Application
from .charset import CHARSETS, UTF8, Charset
from .kinds import Kinds
from .names import literal, quoted
from .schema import Maker, Table, taste_of


@dataclass(frozen=True)
class Statement:
    """A statement before the writers begin. `only` is "subject" where the twin, which has no rowcast, has no use for it."""

    sql: str
    kind: str = ""
    only: str = ""


@dataclass(frozen=True)
class Watch:
    """A call of rowcast.watch, and what it hides."""

    table: int
    ident: str
    channel: str
    call: str
    hidden: tuple[str, ...] = ()
    user_column: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Follow:
    """A subscriber: which channel, through what, on which socket, from which turn on, and when it drops and comes back."""

    channel: str
    table: int
    socket: int
    begins: int = 0
    drops: tuple[tuple[int, int], ...] = ()  # (after this turn, back after that one)
    conditions: tuple[tuple[str, str, str, str], ...] = ()  # (column or `or`, operator, value, the same in SQL)
    columns: tuple[str, ...] = ()
    old: bool = False
    user: str = ""
    is_stream: bool = False  # by server-sent events


@dataclass(frozen=True)
class Step:
    """A statement of a writer's session. `does` is what the tester itself has to do after it: reload CHANNEL, watch …"""

    session: int
    sql: str
    kind: str = ""
    only: str = ""
    copy: str | None = None
    does: tuple[str, ...] = ()
    watch: Watch | None = None


Turn = tuple[Step, ...]  # steps that are kept or dropped together: a transaction, or what belongs to one


@dataclass
class Plan:
    """All of a round."""

    name: str
    charset: Charset = UTF8
    option: str = UTF8.options[0]
    sessions: list[str] = field(default_factory=list)  # the login role of each; "" is the superuser
    begin: list[Statement] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    follows: list[Follow] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    order: list[tuple[int, int]] = field(default_factory=list)  # (turn, step): transactions that are open at once
    relay_user: str = ""
    flags: tuple[str, ...] = ()  # of the server
    migrates_late: bool = False
    has_dump: bool = False
    kinds: tuple[str, ...] = ()


class Planner:
    """Draws what stands before the writers: database, roles, tables, watches."""

    def __init__(self, seed: int, number: int, without: frozenset[str], with_all: bool = False) -> None:
        self.rng = random.Random(f"{seed}/{number}")
        self.kinds = Kinds(self.rng, without, with_all)
        self.prefix = f"r{number}"
        charset = (
            self.rng.choice([each for each in CHARSETS if "east" in self.kinds or not each.name.startswith("EUC")])
            if self.kinds.may(self.rng, "encoding", 0.8)
            else UTF8
        )
        option = self.rng.choice(charset.options) if self.kinds.may(self.rng, "collation", 0.8) else charset.options[0]
        self.plan = Plan(f"{seed}/{number}", charset, option, kinds=tuple(sorted(self.kinds.active)))
        self.taste = taste_of(self.kinds, charset)
        self.owner = ""

    def draw(self) -> list[Table]:
        """Fills the plan up to its watches, and returns the tables as they are then."""
        plan, rng, kinds = self.plan, self.rng, self.kinds
        plan.migrates_late = kinds.may(rng, "late-migrate", 0.3)
        plan.has_dump = kinds.may(rng, "dump", 0.4)
        for name, value, kind in settings.of_database(rng, kinds):
            plan.begin.append(Statement(f"alter database {{database}} set {name} = {literal(value)}", kind))
        self._roles()
        schema = Maker(rng, plan.charset, kinds).make()
        Application(rng, kinds, schema).make()
        plan.begin += [Statement(sql, kind) for sql, kind in schema.ddl]
        self._rights(schema.tables)
        self._first_rows(schema.tables)
        self._watches(schema.tables)
        if kinds.may(rng, "relay-role", 0.8):
            plan.relay_user = "rowcast_relay"
        if kinds.may(rng, "little-memory", 0.8):
            plan.flags = ("--history-bytes", "65536", *(("--log-bytes", "65536") if rng.random() < 0.5 else ()))
        return schema.tables

    def _roles(self) -> None:
        plan, rng = self.plan, self.rng
        plan.sessions = ["", ""]
        if self.kinds.may(rng, "roles", 0.9):
            owner, writer = f"{self.prefix}_owner", f"{self.prefix}_Writer"
            self.owner = owner
            plan.begin += [
                Statement(f"create role {quoted(owner)} login", "roles", "subject"),
                Statement(f"create role {quoted(writer)} login", "roles", "subject"),
                Statement(f"grant create, connect on database {{database}} to {quoted(owner)}", "roles"),
                Statement(f"grant usage, create on schema public to {quoted(owner)}", "roles"),
            ]
            for name, value in settings.of_session(rng, self.kinds):
                plan.begin.append(
                    Statement(
                        f"alter role {quoted(writer)} set {name} = {literal(value)}", "output-settings", "subject"
                    )
                )
            plan.sessions += [owner, writer]
        if self.kinds.may(rng, "lost-login", 0.7) and self.owner:
            login = f"{self.prefix}_lease"
            plan.begin += [
                Statement(f"create role {quoted(login)} login in role {quoted(self.owner)}", "lost-login", "subject"),
                Statement(f"alter role {quoted(login)} set role = {literal(self.owner)}", "lost-login", "subject"),
            ]
            plan.sessions.append(login)

    def _rights(self, tables: list[Table]) -> None:
        plan, rng = self.plan, self.rng
        if self.owner:
            for table in tables:
                plan.begin += [
                    Statement(f"grant usage on schema {quoted(table.schema)} to public", "roles"),
                    Statement(
                        f"grant select, insert, update, delete on {table.ident} to {quoted(self.prefix + '_Writer')}",
                        "roles",
                    ),
                    Statement(f"alter table {table.ident} owner to {quoted(self.owner)}", "roles"),
                ]
            plan.begin.append(Statement("grant all on all tables in schema public to public", "roles"))
        if "policies" in self.kinds:
            for table in tables:
                if rng.random() < 0.6:
                    forced = rng.random() < 0.4
                    plan.begin += [
                        Statement(
                            f"alter table {table.ident} enable row level security{', force row level security' if forced else ''}",
                            "policies",
                        ),
                        Statement(
                            f"create policy app on {table.ident} using ({table.count.ident} % 3 <> 1)", "policies"
                        ),
                    ]

    def _first_rows(self, tables: list[Table]) -> None:
        for table in tables:
            for _ in range(self.rng.randint(0, 8)):
                self.plan.begin.append(
                    Statement(
                        writing.insert(
                            self.rng,
                            table,
                            self.taste,
                            self.rng.randint(1, 3),
                            " on conflict do nothing" if table.has_key and not table.defers else "",
                        ),
                        "rows",
                    )
                )

    def _watches(self, tables: list[Table]) -> None:
        if any("public.nothing" in statement.sql for statement in self.plan.begin):
            self.plan.watches.append(
                Watch(99, "public.nothing", "nothing", "select rowcast.watch('public.nothing')", kind="strange-shapes")
            )
        for table in tables:
            if self.rng.random() < 0.9 or table is tables[0]:
                table.is_watched = True
                if self.kinds.may(self.rng, "channel-names", 0.7):
                    odd = self.rng.choice(
                        (
                            "ünï".encode("ascii", "ignore").decode() + "@",
                            "a+b",
                            "a&b=c",
                            "'quote'",
                            '"dq"',
                            "A.B~c",
                            "back\\slash",
                            "100",
                            "c" * 100,
                            "users",
                            "$x",
                            "a:b;c,d",
                            "<b>",
                            "null",
                        )
                    )
                    table.given = (
                        table.name.replace("_", "-")
                        if re.fullmatch("[a-z_]+", table.name) and table.name != "user" and self.rng.random() < 0.6
                        else f"{odd[:98]}{table.number}"
                    )
                    if any(watch.channel == table.given for watch in self.plan.watches):
                        table.given = ""
                self.plan.watches.append(self.watch(table))

    def watch(self, table: Table) -> Watch:
        """A call for a table, with random arguments."""
        rng = self.rng
        words = [literal(table.ident), f"channel => {literal(table.channel)}"]
        if table.given and re.fullmatch("[a-z_]+", table.name) and table.given == table.name.replace("_", "-"):
            words.pop()
        kind = ""
        if table.hidden:
            words.append(f"exclude => array[{', '.join(map(literal, table.hidden))}]")
            kind = "exclude"
        user_column = ""
        if self.kinds.may(rng, "user-rule", 0.6):
            kind = kind or "user-rule"
            shown = [column for column in table.columns if column.name not in table.hidden]
            series = f"row.{table.count.ident}" if "many-users" in self.kinds else f"least(row.{table.count.ident}, 5)"
            if self.kinds.may(rng, "bad-rule", 0.6):
                words.append(
                    f"user_rule => "
                    f"{literal(rng.choice((f'select 7 / (row.{table.count.ident} % 4)', rng.choice(shown).name, f'select generate_series(1, {series})')))}"
                )
            elif rng.random() < 0.6:
                user_column = table.count.name
                words.append(f"user_rule => {literal(user_column)}")
            else:
                words.append(f"user_rule => {literal(f'select row.{table.count.ident} % 4')}")
            if rng.random() < 0.6:
                words.append(
                    f"notification => jsonb_build_object('k', {literal(table.count.name)}, 'x', {literal(rng.choice(shown).name)})"
                )
        return Watch(
            table.number,
            table.ident,
            table.channel,
            f"select rowcast.watch({', '.join(words)})",
            tuple(table.hidden),
            user_column,
            kind,
        )
