"""Single statements that write, on the tables of the model.

Owns the SQL of a write; knows nothing of sessions or transactions. Any of them may fail: what matters is that it fails
or works alike where there is no rowcast.
"""

from __future__ import annotations

import random

from .kinds import Kinds
from .names import literal, quoted
from .schema import SECRET, Column, Table
from .values import Taste, nullable


def constant(rng: random.Random, column: Column, taste: Taste) -> str:
    """A value of a column."""
    if column.role in ("key", "split", "count", "secret"):
        return column.type.make(rng, taste)
    return nullable(rng, taste, column.type.make)


def insert(rng: random.Random, table: Table, taste: Taste, count: int, suffix: str = "") -> str:
    """Some rows."""
    columns = [column for column in table.writable if column.role != "" or rng.random() < 0.85]
    rows = ", ".join("(" + ", ".join(constant(rng, column, taste) for column in columns) + ")" for _ in range(count))
    return f"insert into {table.ident} ({', '.join(column.ident for column in columns)}) values {rows}{suffix}"


def where(rng: random.Random, table: Table, taste: Taste) -> str:
    """Which rows: one, a few, all."""
    count, key = table.count, rng.choice(table.keys or [table.count])
    return rng.choice(
        (
            f"{key.ident} = {constant(rng, key, taste)}",
            f"{count.ident} = {rng.randrange(50)}",
            f"{count.ident} % {rng.randint(2, 5)} = {rng.randrange(2)}",
            f"{count.ident} < {rng.randrange(60)}",
            "true",
        )
    )


def update(rng: random.Random, table: Table, taste: Taste) -> str:
    """Some columns of some rows."""
    columns = rng.sample(table.free, min(len(table.free), rng.randint(0, 2))) + table.of("secret")[: rng.randrange(2)]
    changes = [f"{column.ident} = {constant(rng, column, taste)}" for column in columns]
    if not changes or rng.random() < 0.5:
        count = table.count.ident
        changes.append(
            f"{count} = {rng.choice((f'{count} + 1', f'{count} - 1', f'{count}', str(rng.randrange(50)), f'({count} * 7) % 50', f'50 - {count}'))}"
        )
    return f"update {table.ident} set {', '.join(changes)} where {where(rng, table, taste)}"


def delete(rng: random.Random, table: Table, taste: Taste) -> str:
    """Some rows go, seldom all."""
    condition = where(rng, table, taste)
    return f"delete from {table.ident} where {condition if condition != 'true' or rng.random() < 0.3 else table.count.ident + ' > 25'}"


def upsert(rng: random.Random, table: Table, taste: Taste) -> str:
    """INSERT … ON CONFLICT."""
    if not table.has_key or table.defers:
        return insert(rng, table, taste, 1, " on conflict do nothing" if not table.defers else "")
    keys = ", ".join(column.ident for column in table.keys)
    count = table.count.ident
    action = rng.choice(
        (
            "nothing",
            f"update set {count} = excluded.{count}",
            f"update set {count} = {table.ident}.{count} + 1 where {table.ident}.{count} % 2 = 0",
        )
    )
    return insert(rng, table, taste, 1, f" on conflict ({keys}) do {action}")


def with_writes(rng: random.Random, table: Table, other: Table, taste: Taste) -> str:
    """Several writes in one statement."""
    count = table.count.ident
    if rng.random() < 0.5:
        columns = ", ".join(column.ident for column in table.writable)
        return (
            f"with gone as (delete from {table.ident} where {where(rng, table, taste)} returning *) insert into {table.ident} ({columns}) "
            f"select {columns} from gone where {count} % 3 <> 0"
        )
    return (
        f"with one as ({update(rng, table, taste)} returning {count} as n), two as ({update(rng, other, taste)} returning 1) "
        f"update {other.ident} set {other.count.ident} = {other.count.ident} + 1 where {other.count.ident} in (select n from one)"
    )


def merge(rng: random.Random, table: Table, taste: Taste) -> str:
    """MERGE, on the first key."""
    key, count = (table.keys or [table.count])[0], table.count.ident
    columns = table.writable
    given = ", ".join(constant(rng, column, taste) for column in columns)
    return (
        f"merge into {table.ident} as m using (values ({constant(rng, key, taste)}::{key.type.sql})) as given (k) on m.{key.ident} = given.k "
        f"when matched and m.{count} % 4 = 1 then delete when matched then update set {count} = m.{count} + 1 "
        f"when not matched then insert ({', '.join(column.ident for column in columns)}) values ({given})"
    )


def copy(rng: random.Random, table: Table, taste: Taste) -> tuple[str, str]:
    """COPY FROM STDIN of keys, count and texts, and its data."""
    columns = [
        column
        for column in table.writable
        if column.role in ("key", "split", "count") and column.type.sql == "int4" or column.type.sql in ("text", "bool")
    ]
    columns = [column for column in columns if column.type is not SECRET]
    lines = []
    for _ in range(rng.randint(1, 6)):
        cells = [
            (
                str(rng.randrange(40))
                if column.type.sql == "int4"
                else (
                    rng.choice("tf")
                    if column.type.sql == "bool"
                    else rng.choice(("\\N", "", "\\\\x", "tab\\t", "a b", rng.choice(taste.charset.words)))
                )
            )
            for column in columns
        ]
        lines.append("\t".join(cells) + "\n")
    return f"copy {table.ident} ({', '.join(column.ident for column in columns)}) from stdin", "".join(lines)


def bulk(rng: random.Random, table: Table, taste: Taste) -> str:
    """Thousands of rows in one statement, where the key has room for them."""
    if rng.random() < 0.4 or any(column.type.sql != "int4" for column in table.of("key")):
        return f"update {table.ident} set {table.count.ident} = {table.count.ident} + 1"
    columns = [column for column in table.writable if column.role in ("key", "split", "count")] + [
        column for column in table.free if column.type.sql == "text"
    ]
    count, base = rng.choice((300, 1500, 4000)), rng.randrange(100, 900_000)
    cells = {
        "key": f"{base} + i",
        "split": "i % 30",
        "count": "i % 50",
        "": rng.choice(("'bulk ' || i", "repeat('x', 200)", literal(taste.charset.words[0]))),
    }
    return (
        f"insert into {table.ident} ({', '.join(column.ident for column in columns)}) select {', '.join(cells[column.role] for column in columns)} "
        f"from generate_series(1, {count}) i"
    )


def move_keys(rng: random.Random, table: Table, taste: Taste) -> str:
    """Keys that change, in ways that pass through each other where the key is checked at the end."""
    key = rng.choice(table.of("key") or [table.count]).ident
    if table.of("key") and table.of("key")[0].type.sql != "int4":
        return f"update {table.ident} set {table.of('key')[0].ident} = {constant(rng, table.of('key')[0], taste)} where {where(rng, table, taste)}"
    return rng.choice(
        (
            f"update {table.ident} set {key} = {key} + 1",
            f"update {table.ident} set {key} = 30 - {key}",
            f"update {table.ident} set {key} = {key} + 1000 where {where(rng, table, taste)}",
            f"update {table.ident} set {key} = {key} - 1000 where {key} > 1000",
            f"update {table.ident} set {key} = {rng.randrange(25)} where {key} = {rng.randrange(25)}",
            f"update {table.ident} set {key} = case {key} when 1 then 2 when 2 then 3 when 3 then 1 else {key} end",
            f"update {table.ident} set {key} = -{key}",
        )
    )


def move_parts(rng: random.Random, table: Table, taste: Taste) -> str:
    """Rows to other partitions, or written straight into one."""
    split = table.of("split")[0].ident
    if table.parts and rng.random() < 0.2:
        return f"update {table.part(rng.choice(table.parts))} set {table.count.ident} = {table.count.ident} + 1"
    return (
        f"update {table.ident} set {split} = "
        f"{rng.choice((f'({split} + 10) % 30', str(rng.randrange(40)), f'29 - {split}'))} where {where(rng, table, taste)}"
    )


def through_view(rng: random.Random, table: Table, taste: Taste) -> str:
    """By the application's view."""
    return f"update public.view_{table.number} set {table.count.ident} = {table.count.ident} + {rng.choice((1, -1))} where {where(rng, table, taste)}"


def truncate(rng: random.Random, tables: list[Table]) -> str:
    """One or several tables, or a partition."""
    chosen = rng.sample(tables, rng.randint(1, min(2, len(tables))))
    return f"truncate {', '.join(table.ident for table in chosen)}{rng.choice(('', ' cascade', ' restart identity', ' restart identity cascade'))}"


def block(rng: random.Random, table: Table, taste: Taste) -> str:
    """A block of PL/pgSQL with a part that is given up."""
    key = (table.keys or [table.count])[0]
    return (
        f"do $block$ begin {update(rng, table, taste)}; begin {update(rng, table, taste)}; {insert(rng, table, taste, 1)}; perform 1 / {rng.randrange(2)}; "
        f"exception when others then {rng.choice((delete(rng, table, taste), 'null'))}; end; "
        f"for i in 1..{rng.randint(1, 4)} loop update {table.ident} set {table.count.ident} = "
        f"{table.count.ident} + i where {key.ident} = {constant(rng, key, taste)}; end loop; end $block$"
    )


def one(rng: random.Random, kinds: Kinds, tables: list[Table], taste: Taste) -> tuple[str, str, str | None]:
    """A statement, its kind, and what a COPY is fed."""
    table, other = rng.choice(tables), rng.choice(tables)
    if kinds.may(rng, "strange-shapes", 0.04):
        return (
            rng.choice(
                ("insert into public.nothing default values", "delete from public.nothing", "truncate public.nothing")
            ),
            "strange-shapes",
            None,
        )
    roll = rng.random()
    if kinds.may(rng, "key-moves", 0.15):
        return move_keys(rng, table, taste), "key-moves", None
    if table.partitions and kinds.may(rng, "partition-moves", 0.25):
        return move_parts(rng, table, taste), "partition-moves", None
    if kinds.may(rng, "merge", 0.08):
        return merge(rng, table, taste), "merge", None
    if kinds.may(rng, "copy", 0.08):
        sql, data = copy(rng, table, taste)
        return sql, "copy", data
    if kinds.may(rng, "views", 0.1):
        return through_view(rng, table, taste), "views", None
    if kinds.may(rng, "savepoints", 0.06):
        return block(rng, table, taste), "savepoints", None
    if roll < 0.3:
        return insert(rng, table, taste, rng.choice((1, 1, 2, 5))), "insert", None
    if roll < 0.7:
        return update(rng, table, taste), "update", None
    if roll < 0.82:
        return delete(rng, table, taste), "delete", None
    if roll < 0.92:
        return upsert(rng, table, taste), "upsert", None
    return with_writes(rng, table, other, taste), "with", None


def temporary(rng: random.Random, table: Table, taste: Taste) -> list[str]:
    """By way of a temporary table with the name of ours."""
    columns = ", ".join(column.ident for column in table.writable)
    return [
        f"create temp table {quoted('outbox_0')} on commit drop as select {columns} from {table.ident}",
        f"delete from {table.ident} where {table.count.ident} > 20",
        f"insert into {table.ident} ({columns}) select {columns} from pg_temp.{quoted('outbox_0')} where {table.count.ident} > 20",
    ]


ACTORS = ("app", "", 'q"uo\\te', "x" * 300, "line\nbreak", "\x01")


def actor(rng: random.Random, taste: Taste) -> str:
    """The actor, as the application says."""
    name = literal(rng.choice((*ACTORS, *taste.charset.words)))
    return rng.choice((f"set rowcast.actor = {name}", f"set application_name = {name}", "reset rowcast.actor"))
