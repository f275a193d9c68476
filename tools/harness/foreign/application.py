"""What a foreign application does by itself: triggers, rules, views, policies, event triggers, as statements.

Each writes only small integers and texts, guards itself against endless recursion, and does the same in every database
that has the same rows.
"""

from __future__ import annotations

import random

from .kinds import Kinds
from .names import quoted
from .schema import Schema, Table

EARLY = ("!!app", "!app", " app", "!rowcasa")
LATE = ("app", "zz", "recompute", "!rowcast_", "RI_ConstraintTrigger", "~last")


class Application:
    """Draws triggers and the like for a schema."""

    def __init__(self, rng: random.Random, kinds: Kinds, schema: Schema) -> None:
        self._rng, self._kinds, self._schema = rng, kinds, schema
        self._made = 0

    def make(self) -> None:
        """Adds to the schema's statements."""
        for table in self._schema.tables:
            for kind in ("before", "sibling", "totals", "statement", "deferred"):
                if self._kinds.may(self._rng, kind, 0.5):
                    getattr(self, f"_{kind}")(table)
            if self._kinds.may(self._rng, "rules", 0.3) and not table.partitions:
                self._rule(table)
            if self._kinds.may(self._rng, "views", 0.5):
                self._view(table)
        if self._kinds.may(self._rng, "event-trigger", 0.8):
            self._event_trigger()

    def _trigger(
        self, table: Table, when: str, event: str, level: str, body: str, kind: str, declare: str = "", suffix: str = ""
    ) -> None:
        self._made += 1
        function = f"public.app_{self._made}()"
        name = self._rng.choice(EARLY if self._kinds.may(self._rng, "early-names", 0.4) else LATE) + f" {self._made}"
        security = " security definer" if self._rng.random() < 0.2 else ""
        self._schema.ddl.append(
            (
                f"create function {function} returns trigger language plpgsql{security} as $app$ {declare} begin {body} end $app$",
                kind,
            )
        )
        constraint = "constraint " if kind == "deferred" else ""
        self._schema.ddl.append(
            (
                (
                    f"create {constraint}trigger {quoted(name)} {when} {event} on {table.ident} {suffix} for each {level} "
                    f"execute function {function}"
                ),
                kind,
            )
        )

    def _before(self, table: Table) -> None:
        count = table.count.ident
        body = self._rng.choice(
            (
                f"if new.{count} % 7 = 3 then return null; end if; return new;",
                f"new.{count} := new.{count} + 1; return new;",
                f"if tg_op = 'UPDATE' and new.{count} = old.{count} then new.{count} := old.{count} + 1; end if; return new;",
                # writes other rows before the row itself
                f"if pg_trigger_depth() < 2 then update {table.ident} set {count} = {count} + 1 where {count} = 5; end if; return new;",
            )
        )
        if self._rng.random() < 0.2:
            self._trigger(
                table,
                "before",
                "delete",
                "row",
                f"if old.{count} % 7 = 3 then return null; end if; return old;",
                "before",
            )
        self._trigger(table, "before", "insert or update", "row", body, "before")

    def _sibling(self, table: Table) -> None:
        count, key = table.count.ident, (table.keys or table.of("count"))[0].ident
        condition = self._rng.choice(
            (
                f"{count} < new.{count}",
                f"{count} > old.{count}",
                f"{key} <> new.{key} and {count} % 3 = new.{count} % 3",
                f"{key} = old.{key}",
                f"{key} = new.{key}",
                f"{count} between 3 and 9",
            )
        )
        if "old." in condition:
            event, row = "update or delete", "old"
        else:
            event, row = "insert or update", "new"
        change = self._rng.choice(
            (
                f"update {table.ident} set {count} = {count} + 100 where {condition};",
                f"update {table.ident} set {count} = {count} - 1 where {condition};",
                f"delete from {table.ident} where {condition} and {count} % 5 = 0;",
            )
        )
        test = self._rng.choice((f"{row}.{count} % 2 = 1", f"{row}.{count} between 1 and 10", "true"))
        depth = self._rng.choice((2, 2, 3))
        self._trigger(
            table,
            "after",
            event,
            "row",
            f"if pg_trigger_depth() < {depth} and {test} then {change} end if; return null;",
            "sibling",
        )

    def _totals(self, table: Table) -> None:
        other = self._rng.choice(self._schema.tables)
        log = f"public.audit_{self._made}"
        self._schema.ddl.append(
            (f"create table {log} (id int4 generated always as identity primary key, op text, n int4)", "totals")
        )
        update = (
            f"update {other.ident} set {other.count.ident} = {other.count.ident} + 1 where {other.count.ident} % 4 = 1;"
            if other is not table
            else ""
        )
        self._trigger(
            table,
            "after",
            "insert or update or delete",
            "row",
            f"if pg_trigger_depth() < 3 then insert into {log} (op, n) values (tg_op, "
            f"coalesce(new.{table.count.ident}, old.{table.count.ident})); {update} end if; return null;",
            "totals",
        )

    def _statement(self, table: Table) -> None:
        other = self._rng.choice(self._schema.tables)
        self._trigger(
            table,
            "after",
            "update",
            "statement",
            f"if pg_trigger_depth() < 2 then update {other.ident} set {other.count.ident} = {other.count.ident} + (select count(*) from after_it) "
            f"where {other.count.ident} % 5 = 2; end if; return null;",
            "statement",
            suffix="referencing old table as before_it new table as after_it",
        )

    def _deferred(self, table: Table) -> None:
        count = table.count.ident
        # what it writes fires it again, at the depth that it has itself: only the remainder ends that
        self._trigger(
            table,
            "after",
            "insert or update",
            "row",
            f"if new.{count} % 5 = 1 then update {table.ident} set {count} = {count} + 1 where {count} = new.{count}; end if; return null;",
            "deferred",
            suffix="deferrable initially deferred",
        )

    def _rule(self, table: Table) -> None:
        count = table.count.ident
        self._schema.ddl.append(
            (
                self._rng.choice(
                    (
                        (
                            f"create rule app_rule as on delete to {table.ident} where old.{count} % 3 = 1 do instead update "
                            f"{table.ident} set {count} = {count} + 1 where {count} = old.{count}"
                        ),
                        f"create rule app_rule as on update to {table.ident} where new.{count} = 13 do instead nothing",
                        f"create rule app_rule as on delete to {table.ident} do also update {table.ident} set {count} = 2 where {count} = 1",
                    )
                ),
                "rules",
            )
        )

    def _view(self, table: Table) -> None:
        view = f"public.view_{table.number}"
        self._schema.ddl.append(
            (
                f"create view {view} as select * from {table.ident} where {table.count.ident} >= 0 with local check option",
                "views",
            )
        )

    def _event_trigger(self) -> None:
        self._schema.ddl.append(
            ("create table public.ddl_log (at timestamptz default now(), tag text)", "event-trigger")
        )
        body = "insert into public.ddl_log (tag) values (tg_tag);"
        event = self._rng.choice(("ddl_command_start", "ddl_command_end", "sql_drop"))
        if event == "ddl_command_end":
            body += " perform count(*) from pg_event_trigger_ddl_commands() where object_identity is not null;"
        elif event == "sql_drop":
            body += " perform count(*) from pg_event_trigger_dropped_objects() where object_identity is not null;"
        self._schema.ddl.append(
            (
                f"create function public.watch_ddl() returns event_trigger language plpgsql security definer as $app$ begin {body} end $app$",
                "event-trigger",
            )
        )
        self._schema.ddl.append(
            (f"create event trigger watch_ddl on {event} execute function public.watch_ddl()", "event-trigger")
        )
