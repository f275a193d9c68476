"""Writes for a schema that nobody here knows: rows that fit its constraints, as far as the catalogue tells.

Reads the catalogue of one database and makes statements; runs nothing. Equal catalogues give equal statements.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Ask = Callable[[str], list[list[str]]]

TABLES = """
select c.oid, format('%I.%I', n.nspname, c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^(pg_|information_schema$|rowcast$)'
 order by n.nspname collate "C", c.relname collate "C" """
COLUMNS = """
select a.attrelid, a.attname, format('%I', a.attname), b.typname, b.typtype, t.typname, a.attnotnull or t.typnotnull,
       case when b.typname in ('varchar', 'bpchar') then greatest(coalesce(nullif(t.typtypmod, -1), a.atttypmod) - 4, 0)
            when b.typname in ('bit', 'varbit') then greatest(a.atttypmod, 1) else 0 end,
       a.attidentity <> '' or a.attgenerated <> '' or coalesce(pg_get_expr(d.adbin, d.adrelid) ~ 'nextval', false), a.attgenerated <> '',
       coalesce((select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = b.oid), ''), a.attnum, b.typcategory
  from pg_attribute a join pg_class c on c.oid = a.attrelid
  join pg_type t on t.oid = a.atttypid
  join pg_type b on b.oid = case t.typtype when 'd' then t.typbasetype else t.oid end
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p') order by a.attrelid, a.attnum"""
FOREIGN = """
select k.conrelid, k.confrelid, array_to_string(k.conkey, ','),
       (select string_agg(quote_ident(a.attname), ',' order by u.place) from unnest(k.confkey) with ordinality u (number, place)
          join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.number)
  from pg_constraint k where k.contype = 'f' and k.conparentid = 0 order by k.conrelid, k.conname collate "C" """
KEYS = """
select i.indrelid, (select string_agg(a.attname, ',' order by u.place) from unnest(i.indkey) with ordinality u (number, place)
                      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = u.number)
  from pg_index i where i.indisprimary order by 1"""
WORDS = "select conrelid, pg_get_constraintdef(oid) from pg_constraint where contype = 'c' and conrelid <> 0 order by conrelid, conname collate \"C\""
VARIANTS = 4  # ways to write a row, until one fits the checks
ROWS = 3


@dataclass
class Column:
    """A column that can be written."""

    name: str
    ident: str
    base: str
    typtype: str
    declared: str
    is_required: bool
    width: int
    is_numbered: bool
    is_generated: bool
    labels: list[str]
    number: str
    category: str


@dataclass
class Table:
    """A table and what its rows must fit."""

    name: str
    columns: list[Column] = field(default_factory=list)
    foreign: list[tuple[str, list[str], str]] = field(
        default_factory=list
    )  # referenced table, own column numbers, its columns
    key: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)  # what its checks name

    def cells(self, row: int, variant: int) -> tuple[list[str], list[str], list[str]]:
        """Columns, expressions and joins of a row."""
        idents: list[str] = []
        values: list[str] = []
        joins: list[str] = []
        taken: dict[str, str] = {}
        for place, (other, numbers, theirs) in enumerate(self.foreign):
            if any(number in taken for number in numbers):
                continue
            columns = theirs.split(",")
            if other == self.name:
                if all(not column.is_required for column in self.columns if column.number in numbers):
                    taken.update(dict.fromkeys(numbers, "null"))
                continue
            joins.append(
                f"left join (select {theirs} from {other} order by {theirs} offset {(row + variant) % ROWS} limit 1) f{place} on true"
            )
            taken.update({number: f"f{place}.{column}" for number, column in zip(numbers, columns)})
        for column in self.columns:
            if column.is_numbered and column.number not in taken or column.is_generated:
                continue
            value = taken.get(column.number) or literal(column, row, variant, self.words)
            if value == "null" and not column.is_required:
                continue
            idents.append(column.ident)
            values.append(value)
        return idents, values, joins

    def insert(self, row: int, variant: int) -> str:
        """A new row."""
        idents, values, joins = self.cells(row, variant)
        if not idents:
            return f"insert into {self.name} default values"
        return f"insert into {self.name} ({', '.join(idents)}) select {', '.join(values)} from (select 1) o {' '.join(joins)}"

    def at(self, row: int) -> str:
        """A condition that holds for one row."""
        order = ", ".join(quoted(name) for name in self.key) or f"{self.name}::text"
        return f"ctid = (select ctid from {self.name} order by {order} offset {row} limit 1)"

    def updates(self) -> Iterator[str]:
        """Each column that is free, in one row; then all of them in all rows."""
        fixed = {number for _, numbers, _ in self.foreign for number in numbers}
        free = [
            each
            for each in self.columns
            if not each.is_numbered and not each.is_generated and each.name not in self.key and each.number not in fixed
        ]
        for place, column in enumerate(free[:6]):
            value = literal(column, 7 + place, 0, self.words)
            if value != "null":
                yield f"update {self.name} set {column.ident} = {value} where {self.at(place % ROWS)}"
        for column in free:
            if column.base in ("int2", "int4", "int8", "numeric", "float8"):
                yield f"update {self.name} set {column.ident} = {column.ident} + 1"
                break
        for column in self.columns:
            if (
                column.name in self.key
                and column.base in ("int4", "int8")
                and not column.is_generated
                and column.number not in fixed
            ):
                yield f"update {self.name} set {column.ident} = {column.ident} + 5000 where {self.at(0)}"
                break

    def delete(self) -> str:
        """The last row."""
        return f"delete from {self.name} where {self.at(ROWS - 1)}"


def read(ask: Ask) -> list[Table]:
    """All tables, those first that others refer to."""
    names = {oid: name for oid, name in ask(TABLES)}
    tables = {oid: Table(name) for oid, name in names.items()}
    for (
        oid,
        name,
        ident,
        base,
        typtype,
        declared,
        required,
        width,
        numbered,
        generated,
        labels,
        number,
        category,
    ) in ask(COLUMNS):
        if oid in tables:
            tables[oid].columns.append(
                Column(
                    name,
                    ident,
                    base,
                    typtype,
                    declared,
                    required == "t",
                    int(width),
                    numbered == "t",
                    generated == "t",
                    labels.split(",") if labels else [],
                    number,
                    category,
                )  # fmt: skip
            )
    for oid, other, numbers, theirs in ask(FOREIGN):
        if oid in tables:
            tables[oid].foreign.append((names[other], numbers.split(","), theirs))
    for oid, columns in ask(KEYS):
        if oid in tables:
            tables[oid].key = columns.split(",")
    for oid, text in ask(WORDS):
        if oid in tables:
            tables[oid].words += re.findall(r"'([^']*)'", text)
    done: dict[str, Table] = {}
    left = list(tables.values())
    while left:
        ready = [
            each for each in left if all(other in done or other == each.name for other, _, _ in each.foreign)
        ] or left[:1]
        for each in ready:
            done[each.name] = each
            left.remove(each)
    return list(done.values())


def literal(column: Column, row: int, variant: int, words: list[str]) -> str:
    """A value of the column's type; rows and variants differ."""
    n = row + 11 * variant + 1
    base, width = column.base, column.width
    if column.labels:
        return text(column.labels[n % len(column.labels)])
    if base in ("int2", "int4", "int8", "oid"):
        return str([n, row % 2, n % 2, -n][variant])
    if base in ("numeric", "float4", "float8", "money"):
        return f"'{n}.25'" if variant == 0 else f"'{row % 2}'"
    if base in ("text", "varchar", "bpchar", "citext", "name"):
        if variant and words:
            return text(words[(row + variant) % len(words)][: width or None])
        if width == 1:
            return text("ynab"[(n + variant) % 4])
        made = f"{n}{column.name[:12]}" if variant != 2 else f"{n}"
        return text(
            (made if variant != 3 else "0" * 32 + str(n))[: width or 60]
            if variant != 3
            else made.rjust(width or 8, "0")[-(width or 8) :]
        )
    if base == "bytea":
        size = int(found[0]) if (found := re.findall(r"\d+", column.declared)) else (20, 16, 4, 8)[variant]
        return f"'\\x{n:0{2 * size}x}'"
    simple = {
        "bool": str(n % 2 == 0).lower(),
        "date": f"'2024-01-{n % 28 + 1:02}'",
        "time": f"'10:{n % 60:02}'",
        "timetz": f"'10:{n % 60:02}+00'",
        "timestamp": f"'2024-01-{n % 28 + 1:02} 10:00:00.5'",
        "timestamptz": f"'2024-01-{n % 28 + 1:02} 10:00:00.5+00'",
        "interval": f"'{n} hours'",
        "uuid": f"'00000000-0000-4000-8000-{n:012}'",
        "json": f"'{{\"n\": {n}}}'",
        "jsonb": f"'{{\"n\": {n}}}'",
        "inet": f"'10.0.0.{n}'",
        "cidr": f"'10.0.{n}.0/24'",
        "macaddr": f"'08:00:2b:01:02:{n:02}'",
        "xml": f"'<a>{n}</a>'",
        "point": f"'({n},1)'",
        "tsvector": f"'a{n}'",
    }
    if base in simple:
        return simple[base]
    if base in ("bit", "varbit"):
        return f"b'{'01'[n % 2] * width}'"
    return "'{}'" if column.category == "A" else "null"


def text(value: str) -> str:
    """A literal."""
    return "'" + value.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'
