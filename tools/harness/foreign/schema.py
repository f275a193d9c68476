"""The tables of a foreign database: a model that the writers draw from, and the statements that make them.

Owns the model and its DDL. What the application does by itself (triggers, rules, policies) is `application`'s.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from . import values
from .charset import Charset
from .kinds import Kinds
from .names import Names, literal, quoted
from .values import Taste, Type


@dataclass
class Column:
    """`role` says what the writers may do with it."""

    name: str
    type: Type
    role: str = (
        ""  # key, count, split (the table is partitioned by it), secret, made (generated), fixed (DDL leaves it alone)
    )
    sql: str = ""  # of its type, where it is not the type's own

    @property
    def ident(self) -> str:
        return quoted(self.name)


@dataclass
class Table:
    """One table as the generator believes it to be."""

    number: int
    schema: str
    name: str
    columns: list[Column] = field(default_factory=list)
    has_key: bool = True
    partitions: str = ""  # list, range, hash
    parts: list[str] = field(default_factory=list)  # names of partitions, in its schema
    is_watched: bool = False
    hidden: list[str] = field(default_factory=list)
    defers: bool = False  # its key is checked at the end
    readers: list[Table] = field(default_factory=list)  # tables whose foreign keys name it
    spare: int = 0  # names that were given to new columns
    is_unlogged: bool = False
    given: str = ""  # name of its channel where it is not the usual one

    @property
    def ident(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def channel(self) -> str:
        return self.given or f"c{self.number}"

    def part(self, name: str) -> str:
        return f"{quoted(self.schema)}.{quoted(name)}"

    def of(self, role: str) -> list[Column]:
        return [column for column in self.columns if column.role == role]

    @property
    def count(self) -> Column:
        return self.of("count")[0]

    @property
    def keys(self) -> list[Column]:
        return [column for column in self.columns if column.role in ("key", "split")]

    @property
    def writable(self) -> list[Column]:
        return [column for column in self.columns if column.role != "made"]

    @property
    def free(self) -> list[Column]:
        return [column for column in self.columns if column.role == ""]


@dataclass
class Schema:
    """All that is there, and how it came to be: (statement, kind)."""

    tables: list[Table] = field(default_factory=list)
    ddl: list[tuple[str, str]] = field(default_factory=list)


SMALL = Type("int4", lambda rng, taste: str(rng.randrange(1, 25)), "", True, "eq in gt is")
COUNT = Type("int4", lambda rng, taste: str(rng.randrange(0, 50)), "", False, "eq in gt is")
SECRET = Type("text", lambda rng, taste: f"'S3CR3T{rng.randrange(1 << 30):x}'", "")


class Maker:
    """Draws the schema of a round."""

    def __init__(self, rng: random.Random, charset: Charset, kinds: Kinds) -> None:
        self.rng, self.kinds, self.charset = rng, kinds, charset
        self.schema = Schema()
        self._types = [each for each in values.TYPES if not each.kind or each.kind in kinds]
        self._add = lambda sql, kind="": self.schema.ddl.append((sql, kind))
        self._table_names = Names(rng, charset, "names" in kinds)

    def make(self) -> Schema:
        """The schema, with one to four tables."""
        schemas = ["public"]
        if self.kinds.may(self.rng, "names", 0.4):
            schemas.append(self.rng.choice(("My Schema", "app", "user", "Rowcast", "rowcast2", "select")))
            self._add(f"create schema {quoted(schemas[-1])}")
        self._own_types()
        for number in range(self.rng.choice((1, 1, 2, 2, 3, 4))):
            self.schema.tables.append(self._table(number, self.rng.choice(schemas)))
        if "foreign-keys" in self.kinds:
            self._foreign_keys()
        if self.kinds.may(self.rng, "strange-shapes", 0.3):
            self._add("create table public.nothing ()", "strange-shapes")
        return self.schema

    def _own_types(self) -> None:
        own = []
        if "own-types" in self.kinds:
            self._add("create type public.\"Mood\" as enum ('sad', 'ok', 'it''s \"fine\"')", "own-types")
            self._add("create domain public.positive as int4 check (value >= 0)", "own-types")
            self._add("create domain public.stamp as timestamptz not null", "own-types")
            self._add('create type public.pair as ("r" int4, "old" text, at timestamptz, i interval)', "own-types")
            self._add("create domain public.pairs as public.pair[]", "own-types")
            own += [
                Type('public."Mood"', values.one_of("sad", "ok", "it''s \"fine\""), filters="eq like"),
                Type("public.positive", COUNT.make, filters="eq gt"),
                Type("public.stamp", lambda rng, taste: "'2024-01-31 10:20:30+05'"),
                Type(
                    "public.pair",
                    lambda rng, taste: (
                        f"row({COUNT.make(rng, taste)}, {values.text(rng, taste)}, '2024-01-31 10:20:30+05', '1 day')::public.pair"
                    ),
                ),
                Type(
                    "public.pairs",
                    lambda rng, taste: (
                        f"array[row(1, {values.text(rng, taste)}, '2024-01-31 10:20+05', '2 mons')::public.pair]"
                    ),
                ),
                Type('public."Mood"[]', values.one_of("{sad,ok}", "{}")),
            ]
        for name, kind, make, is_key in (
            ("citext", "contrib", values.text, True),
            ("hstore", "hstore", values.one_of("a=>1", 'b=>NULL,"c d"=>"e"', odd=("",)), False),
            ("ltree", "contrib", values.one_of("a.b.c", "x"), True),
            ("cube", "contrib", values.one_of("(1,2),(3,4)"), False),
        ):
            if self.kinds.may(self.rng, kind, 0.5):
                self._add(f"create extension {name} with schema public", kind)
                own.append(Type(f"public.{name}", make, is_key=is_key))
        self._types += own * 3

    def _table(self, number: int, schema: str) -> Table:
        rng, kinds = self.rng, self.kinds
        names = Names(rng, self.charset, "names" in kinds, "name-r" in kinds)
        table = Table(
            number,
            schema,
            self._table_names.fresh()
            if rng.random() < 0.8 or "names" not in kinds
            else rng.choice(("user", "order", "pets")) + f" {number}",
        )
        keys = [Column(names.fresh(), SMALL, "key")]
        if kinds.may(rng, "odd-key"):
            keys = [
                Column(names.fresh(), rng.choice([each for each in self._types if each.is_key]), "key")
                for _ in range(rng.choice((1, 1, 2)))
            ]
            if len(keys) == 2:
                keys[0].type = SMALL
        if kinds.may(rng, "partitions", 0.6):
            table.partitions = rng.choice(("list", "range", "hash"))
            keys.append(Column(names.fresh(), COUNT, "split"))
        elif kinds.may(rng, "no-key", 0.5):
            table.has_key = False
        table.columns = [*keys, Column(names.fresh(), COUNT, "count")]
        for _ in range(rng.randint(1, 8)):
            table.columns.append(Column(names.fresh(), rng.choice(self._types)))
        if kinds.may(rng, "exclude", 0.6):
            table.columns.append(Column(names.fresh(), SECRET, "secret"))
            table.hidden.append(table.columns[-1].name)
        if kinds.may(rng, "hide-any", 0.5):
            for column in rng.sample(table.free, min(len(table.free), 2)):
                table.hidden.append(column.name)
        if kinds.may(rng, "strange-shapes", 0.2) and (not table.hidden or "slow-lists" in kinds):
            table.columns += [Column(f"wide {each}", rng.choice(self._types[:5])) for each in range(250)]
        if kinds.may(rng, "generated", 0.6):
            table.columns.append(
                Column(names.fresh(), COUNT, "made", f"int4 generated always as ({table.count.ident} * 2) stored")
            )
        if kinds.may(rng, "dropped", 0.6):
            table.columns.append(Column("dropped before", rng.choice(self._types), "gone"))
        rng.shuffle(table.columns)
        self._create(table)
        return table

    def _create(self, table: Table) -> None:
        rng, kinds = self.rng, self.kinds
        lines = []
        for column in table.columns:
            line = f"{column.ident} {column.sql or column.type.sql}"
            if column.role == "" and kinds.may(rng, "generated", 0.3) and column.type in (SMALL, *values.TYPES[:4]):
                line += f" default {'7' if 'int' in column.type.sql else literal('by default')}"
            lines.append(line)
        if table.has_key:
            table.defers = not table.partitions and kinds.may(rng, "odd-key", 0.3)
            lines.append(
                f"primary key ({', '.join(column.ident for column in table.keys)}){' deferrable initially deferred' if table.defers else ''}"
            )
        table.is_unlogged = not table.partitions and kinds.may(rng, "unlogged", 0.5)
        unlogged = "unlogged " if table.is_unlogged else ""
        by = f" partition by {table.partitions} ({table.of('split')[0].ident})" if table.partitions else ""
        self._add(f"create {unlogged}table {table.ident} ({', '.join(lines)}){by}", table.partitions and "partitions")
        if table.partitions:
            self._partitions(table)
        for column in table.of("gone"):
            self._add(f"alter table {table.ident} drop column {column.ident}", "dropped")
        table.columns = [column for column in table.columns if column.role != "gone"]
        if kinds.may(rng, "inheritance", 0.4) and not table.partitions:
            self._add(
                f"create table {table.part(f'child of {table.number}')} (extra int4) inherits ({table.ident})",
                "inheritance",
            )
        if kinds.may(rng, "replica-identity", 0.6):
            self._add(
                f"alter table {table.ident} replica identity {rng.choice(('full', 'nothing'))}", "replica-identity"
            )
        if kinds.may(rng, "wide", 0.5):
            for column in table.free:
                if column.type.sql == "text":
                    self._add(f"alter table {table.ident} alter column {column.ident} set storage external", "wide")
        if rng.random() < 0.3:
            self._add(f"create index on {table.ident} (({table.count.ident} % 5)) where {table.count.ident} > 3")

    def _partitions(self, table: Table) -> None:
        rng = self.rng
        bounds = {
            "list": [f"in ({','.join(map(str, range(first, first + 10)))})" for first in (0, 10, 20)],
            "range": ["from (minvalue) to (10)", "from (10) to (20)", "from (20) to (30)"],
            "hash": [f"with (modulus 3, remainder {number})" for number in range(3)],
        }[table.partitions]
        for number, bound in enumerate(bounds):
            name = f"{table.name[:50]}_{number}"
            nested = f" partition by list ({table.of('split')[0].ident})" if number == 1 and rng.random() < 0.3 else ""
            for_values = f"for values {bound}"
            self._add(f"create table {table.part(name)} partition of {table.ident} {for_values}{nested}", "partitions")
            table.parts.append(name)
            if nested:
                self._add(
                    f"create table {table.part(name + '_rest')} partition of {table.part(name)} default", "partitions"
                )
        if table.partitions != "hash" and rng.random() < 0.8:
            self._add(
                f"create table {table.part(table.name[:50] + '_rest')} partition of {table.ident} default", "partitions"
            )
            table.parts.append(table.name[:50] + "_rest")

    def _foreign_keys(self) -> None:
        rng = self.rng
        for child in self.schema.tables[1:]:
            parent = rng.choice(self.schema.tables[: child.number])
            # a permanent table may refer to permanent ones only
            if (
                parent.is_unlogged > child.is_unlogged
                or not parent.has_key
                or parent.partitions
                or parent.defers
                or len(parent.keys) != 1
                or parent.keys[0].type is not SMALL
            ):
                continue
            column = Column(f"of {parent.number}", SMALL, "fixed")
            action = ("no action", "restrict", "cascade", "set null", "set default")
            self._add(
                f"alter table {child.ident} add column {column.ident} int4 references {parent.ident} on update {rng.choice(action)} "
                f"on delete {rng.choice(action)}{rng.choice(('', '', ' deferrable initially deferred'))}",
                "foreign-keys",
            )
            child.columns.append(column)
            parent.readers.append(child)


def taste_of(kinds: Kinds, charset: Charset) -> Taste:
    """What values may be like in a round."""
    return Taste(charset, "odd-values" in kinds, "invalid-bytes" in kinds, "wide" in kinds)
