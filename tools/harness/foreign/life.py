"""What happens to tables while they are watched: DDL as turns, and the model after it.

A turn of DDL is alone: no other transaction is open. Where it changes what rows say, it tells the tester to let the
subscribers of that channel load again, as a deployment would; what is told without that is asked by a kind of its own.
"""

from __future__ import annotations

import random
from dataclasses import replace

from . import writing
from .names import literal, quoted
from .plan import Planner, Step, Turn
from .schema import COUNT, Column, Table
from .values import TYPES


def is_alone(turn: Turn) -> bool:
    """Whether no other transaction may be open beside it."""
    return any(
        step.kind.startswith(("ddl", "swap", "expand", "rewatch", "watch", "truncate", "lost", "restart", "prune"))
        for step in turn
    )


class Life:
    """Draws turns of DDL."""

    def __init__(self, planner: Planner, tables: list[Table]) -> None:
        self._planner, self._tables = planner, tables
        self._rng, self._kinds = planner.rng, planner.kinds

    def turn(self) -> Turn | None:
        """A turn, or None where nothing of this sort may be."""
        table = self._rng.choice(self._tables)
        ways = [
            way
            for kind, way in (
                ("ddl-shape", self._shape),
                ("ddl-partition", self._partition),
                ("ddl-other", self._other),
                ("swap-table", self._swap),
                ("expand-contract", self._replace),
                ("rewatch", self._rewatch),
                ("truncate", self._truncate),
                ("watch-schema", self._watch_schema),
                ("lost-login", self._lose),
                ("ddl-types", self._types),
                ("restart", self._restart),
                ("prune", self._prune),
            )
            if kind in self._kinds
        ]
        turn = self._rng.choice(ways)(table) if ways else None
        if turn and turn[0].kind == "ddl-shape" and self._rng.random() < 0.4:
            return self._among_writes(table, turn)
        return turn

    def _among_writes(self, table: Table, turn: Turn) -> Turn:
        """DDL and writes in one transaction."""
        rng, taste = self._rng, self._planner.taste
        write = Step(0, f"update {table.ident} set {table.count.ident} = {table.count.ident} + 1", "update")
        made = Step(
            0, writing.insert(rng, table, taste, 2, " on conflict do nothing" if not table.defers else ""), "insert"
        )
        return (
            Step(0, "begin", "ddl-shape"),
            *(replace(step, does=()) for step in turn),
            write,
            made,
            Step(0, "commit", "ddl-shape", does=turn[-1].does),
        )

    def _reload(self, table: Table) -> tuple[str, ...]:
        return () if "silent-ddl" in self._kinds or not table.is_watched else (f"reload {table.channel}",)

    def _shape(self, table: Table) -> Turn:
        rng = self._rng
        free = [column for column in table.free if column.name not in table.hidden]
        reload = self._reload(table)
        fresh = Column(f"added {table.spare}", rng.choice(TYPES[:5]))
        roll = rng.random()
        if not table.has_key and not table.partitions and roll < 0.15:
            table.has_key = True
            table.spare += 1
            table.columns.append(Column(f"pk {table.spare}", COUNT, "made"))
            return (
                Step(
                    0,
                    f"alter table {table.ident} add column {table.columns[-1].ident} int8 generated always as identity primary key",
                    "ddl-shape",
                    does=reload,
                ),
            )
        if roll < 0.3 or not free:
            table.spare += 1
            default = rng.choice(
                (
                    "",
                    " default 7" if fresh.type.sql == "int4" else "",
                    " default clock_timestamp()::text" if fresh.type.sql == "text" else "",
                )
            )
            table.columns.append(fresh)
            return (
                Step(
                    0,
                    f"alter table {table.ident} add column {fresh.ident} {fresh.type.sql}{default}",
                    "ddl-shape",
                    does=reload,
                ),
            )
        column = rng.choice(free)
        if roll < 0.45:
            table.columns.remove(column)
            return (Step(0, f"alter table {table.ident} drop column {column.ident} cascade", "ddl-shape", does=reload),)
        if roll < 0.6:
            old, column.name = column.ident, f"renamed {table.spare}"
            table.spare += 1
            return (
                Step(0, f"alter table {table.ident} rename column {old} to {column.ident}", "ddl-shape", does=reload),
            )
        if roll < 0.75:
            if column.type.sql != "int4" or column.role:
                return (
                    Step(0, f"alter table {table.ident} alter column {column.ident} set default null", "ddl-shape"),
                )
            column.type = TYPES[2]
            return (
                Step(
                    0,
                    f"alter table {table.ident} alter column {column.ident} drop default, alter column {column.ident} type text using 'was ' || {column.ident}",
                    "ddl-shape",
                    does=reload,
                ),
            )
        if roll < 0.9:
            old, table.name = table.ident, f"renamed {table.number} {table.spare}"
            table.spare += 1
            return (Step(0, f"alter table {old} rename to {quoted(table.name)}", "ddl-shape"),)
        old, schema = table.ident, f"moved {table.spare}"
        if table.parts:
            return (Step(0, f"comment on table {table.ident} is 'moved'", "ddl-shape"),)
        table.spare += 1
        table.schema = f"{schema} {table.number}"
        return (
            Step(0, f"create schema {quoted(table.schema)}", "ddl-shape"),
            Step(0, f"grant usage on schema {quoted(table.schema)} to public", "ddl-shape"),
            Step(
                0,
                f"alter table {old} set schema {quoted(table.schema)}",
                "ddl-shape",
                does=() if not self._planner.plan.relay_user else reload,
            ),
        )

    def _partition(self, table: Table) -> Turn:
        """Rows come and go with their partition, which no trigger sees: the subscribers load again."""
        rng = self._rng
        does = (f"reload {table.channel}",) if table.is_watched else ()
        if not table.partitions or not table.parts:
            return (Step(0, f"analyze {table.ident}", "ddl-other"),)
        if table.partitions == "hash" or rng.random() < 0.6:
            name = rng.choice(table.parts)
            table.parts.remove(name)
            table.spare += 1
            return (
                Step(0, f"alter table {table.ident} detach partition {table.part(name)}", "ddl-partition", does=does),
                Step(
                    0, f"update {table.part(name)} set {table.count.ident} = {table.count.ident} + 1", "ddl-partition"
                ),
            )
        name, first = f"attached {table.number} {table.spare}", 100 + 10 * table.spare
        table.spare += 1
        table.parts.append(name)
        bound = f"in ({first})" if table.partitions == "list" else f"from ({first}) to ({first + 10})"
        columns = ", ".join(column.ident for column in table.writable)
        cells = ", ".join(str(first) if column.role == "split" else column.ident for column in table.writable)
        shuffled = rng.sample(table.columns, len(table.columns))
        if "strange-shapes" in self._kinds:
            create = f"create table {table.part(name)} ({', '.join(f'{column.ident} {column.sql or column.type.sql}' for column in shuffled)})"
        else:
            create = f"create table {table.part(name)} (like {table.ident} including defaults including generated)"
        return (
            Step(0, create, "ddl-partition"),
            Step(
                0,
                f"insert into {table.part(name)} ({columns}) select {cells} from {table.ident} on conflict do nothing",
                "ddl-partition",
            ),
            Step(
                0,
                f"alter table {table.ident} attach partition {table.part(name)} for values {bound}",
                "ddl-partition",
                does=does,
            ),
        )

    def _types(self, table: Table) -> Turn:
        """All tables may have columns of the type: a subscriber that shows them loads again."""
        rng, kind = self._rng, "ddl-types"
        table.spare += 1
        name = f"x{table.number}_{table.spare}"
        loads = tuple(f"reload {each.channel}" for each in self._tables if each.is_watched)
        sql, does = rng.choice(
            (
                (f"alter type public.\"Mood\" add value '{name}'", ()),
                (f"alter type public.pair add attribute {name} int4 cascade", loads),
                ("alter domain public.positive drop constraint positive_check", ()),
                (f"alter type public.pair rename attribute at to {name}", loads),
                ("alter domain public.positive set not null", ()),
                (f"create type public.{name} as enum ('a')", ()),
            )
        )
        return (Step(0, sql, kind, does=does),)

    def _restart(self, _table: Table) -> Turn:
        return (Step(0, "select 1", "restart", does=("restart",)),)

    def _prune(self, _table: Table) -> Turn:
        """Twice: the first may only close a segment."""
        age = "update rowcast.segment set opened_at = opened_at - interval '2 days', closed_at = closed_at - interval '2 days'"
        step = Step(0, "select rowcast.prune()", "prune", "subject")
        return (Step(0, age, "prune", "subject"), step, Step(0, age, "prune", "subject"), step)

    def _other(self, table: Table) -> Turn:
        rng = self._rng
        sql = rng.choice(
            (
                f"create index on {table.ident} ({table.count.ident})",
                f"vacuum full {table.ident}",
                f"vacuum (freeze, analyze) {table.ident}",
                f"create index concurrently on {table.ident} ({table.count.ident})",
                f"reindex table {table.ident}",
                f"comment on table {table.ident} is 'x'",
                f"alter table {table.ident} set (autovacuum_enabled = off)",
                f"alter table {table.ident} alter column {table.count.ident} set statistics 10",
                f"grant select on {table.ident} to public",
                f"alter table {table.ident} add check ({table.count.ident} > -100000)",
                f"alter table {table.ident} cluster on {quoted(table.name[:50] + '_pkey')}",
                "discard all",
                "checkpoint",
                "reset all",
                f"alter table {table.ident} replica identity full",
                f"revoke all on {table.ident} from public",
            )
        )
        return (Step(0, sql, "ddl-other"),)

    def _truncate(self, table: Table) -> Turn:
        return (Step(rng_session(self._rng, self._planner), writing.truncate(self._rng, self._tables), "truncate"),)

    def _swap(self, table: Table) -> Turn:
        """As tools for online schema changes do it, and then somebody watches again, as the remedy says."""
        if table.partitions or table.readers or not table.is_watched:
            return self._other(table)
        new, old = table.part(f"new {table.number} {table.spare}"), f"old {table.number} {table.spare}"
        table.spare += 1
        columns = ", ".join(column.ident for column in table.writable)
        watch = self._planner.watch(table)
        return (
            Step(0, "begin", "swap-table"),
            Step(0, f"create table {new} (like {table.ident} including all)", "swap-table"),
            Step(0, f"insert into {new} ({columns}) select {columns} from {table.ident}", "swap-table"),
            Step(0, f"alter table {table.ident} rename to {quoted(old)}", "swap-table"),
            Step(0, f"alter table {new} rename to {quoted(table.name)}", "swap-table"),
            Step(0, "commit", "swap-table"),
            Step(0, f"grant all on {table.ident} to public", "swap-table"),
            Step(0, f"select rowcast.unwatch({literal(table.part(old))})", "swap-table", "subject"),
            Step(0, watch.call, "swap-table", "subject", does=(f"reload {table.channel}",), watch=watch),
        )

    def _replace(self, table: Table) -> Turn:
        """The excluded column gives its name to another one: by a rename and a new one, or by a copy that takes its place."""
        secrets = table.of("secret")
        if not secrets:
            return self._other(table)
        secret, rng = secrets[0], self._rng
        name, kind = secret.ident, "expand-contract"
        aside = f"aside {table.spare}"
        table.spare += 1
        fill = Step(
            0,
            f"update {table.ident} set {name} = 'S3CR3T' || {table.count.ident}, {table.count.ident} = {table.count.ident} + 1",
            kind,
        )
        reload = (f"reload {table.channel}",) if table.is_watched else ()
        if rng.random() < 0.5:
            table.hidden.append(
                aside
            )  # a call that states the channel again states both; a list of the same names keeps both
            return (
                Step(0, "begin", kind),
                Step(0, f"alter table {table.ident} rename column {name} to {quoted(aside)}", kind),
                Step(0, f"alter table {table.ident} add column {name} text", kind),
                Step(0, f"update {table.ident} set {name} = {quoted(aside)}", kind),
                Step(0, "commit", kind, does=reload),
                fill,
            )
        return (
            Step(0, f"alter table {table.ident} add column {quoted(aside)} text", kind),
            Step(0, f"alter table {table.ident} drop column {name} cascade", kind),
            Step(0, f"alter table {table.ident} rename column {quoted(aside)} to {name}", kind, does=reload),
            fill,
        )

    def _rewatch(self, table: Table) -> Turn:
        """With other arguments: one more column is hidden from now on, or none but those before."""
        if not table.is_watched:
            table.is_watched = True
        elif self._rng.random() < 0.2:
            return (
                Step(0, f"select rowcast.unwatch({literal(table.ident)})", "rewatch", "subject"),
                Step(0, f"update {table.ident} set {table.count.ident} = {table.count.ident} + 1", "rewatch"),
                self._watch_again(table),
            )
        free = [column for column in table.free if column.name not in table.hidden and column.type in TYPES[:5]]
        if free and "exclude" in self._kinds:
            chosen = self._rng.choice(free)
            table.hidden.append(chosen.name)
            chosen.role = "fixed"
        again = self._watch_again(table)
        return (replace(again, does=(f"renew {table.channel}",)) if "old-places" in self._kinds else again,)

    def _watch_again(self, table: Table) -> Step:
        watch = self._planner.watch(table)
        return Step(0, watch.call, "rewatch", "subject", does=(f"reload {table.channel}",), watch=watch)

    def _watch_schema(self, _table: Table) -> Turn:
        return (Step(0, "select rowcast.watch_schema('public')", "watch-schema", "subject"),)

    def _lose(self, table: Table) -> Turn:
        """The lease of a login ends, and its connection lives on."""
        plan = self._planner.plan
        if not plan.sessions[-1].endswith("_lease"):
            return self._other(table)
        write = Step(
            len(plan.sessions) - 1,
            f"update {table.ident} set {table.count.ident} = {table.count.ident} + 1",
            "lost-login",
        )
        return (write, Step(0, f"drop role if exists {quoted(plan.sessions[-1])}", "lost-login", "subject"), write)


def rng_session(rng: random.Random, planner: Planner) -> int:
    """Any of the sessions."""
    return rng.randrange(len(planner.plan.sessions))
