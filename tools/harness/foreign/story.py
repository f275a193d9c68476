"""What the writers of a round do, turn by turn, and who listens: the second half of a plan."""

from __future__ import annotations

import random
from dataclasses import replace

from . import settings, writing
from .life import Life, is_alone, rng_session
from .names import literal
from .plan import Follow, Plan, Planner, Step, Turn
from .schema import Column, Table


def draw(seed: int, number: int, without: frozenset[str], length: int, with_all: bool = False) -> Plan:
    """The plan of a round."""
    planner = Planner(seed, number, without, with_all)
    tables = planner.draw()
    plan, rng, kinds = planner.plan, planner.rng, planner.kinds
    life = Life(planner, tables)
    follows_on = [replace_table(table) for table in tables]
    for turn_number in range(rng.randint(max(2, length // 3), length)):
        turn = life.turn() if rng.random() < 0.2 else None
        plan.turns.append(turn or transaction(planner, tables, turn_number))
    plan.order = order(rng, plan.turns, "interleaved" in kinds)
    plan.follows = Listening(planner, follows_on).draw()
    return plan


def replace_table(table: Table) -> Table:
    """The table as it is before the story changes it."""
    return replace(table, columns=[replace(column) for column in table.columns], hidden=list(table.hidden))


def transaction(planner: Planner, tables: list[Table], number: int) -> Turn:
    """One transaction of one session."""
    rng, kinds, taste = planner.rng, planner.kinds, planner.taste
    session = rng_session(rng, planner)
    steps: list[Step] = []

    def add(sql: str, kind: str = "", only: str = "", copy: str | None = None) -> None:
        steps.append(Step(session, sql, kind, only, copy))

    for name, value in settings.of_session(rng, kinds) if rng.random() < 0.3 else []:
        add(f"set {name} = {literal(value)}", "output-settings")
    if kinds.may(rng, "actor", 0.4):
        add(writing.actor(rng, taste), "actor")
    if kinds.may(rng, "bulk", 0.08):
        add(writing.bulk(rng, rng.choice(tables), taste), "bulk")
        return tuple(steps)
    count = rng.choice((1, 1, 2, 3, 5))
    if count == 1 and rng.random() < 0.8:
        sql, kind, copy = writing.one(rng, kinds, tables, taste)
        add(sql, kind, copy=copy)
        return tuple(steps)
    add(f"begin{rng.choice(('', '', '', ' isolation level repeatable read', ' isolation level serializable'))}")
    muted = kinds.may(rng, "mute", 0.15)
    for _each in range(count):
        if kinds.may(rng, "savepoints", 0.3):
            add("savepoint here", "savepoints")
            sql, kind, copy = writing.one(rng, kinds, tables, taste)
            add(sql, kind, copy=copy)
            add(rng.choice(("rollback to here", "rollback to here", "release here")), "savepoints")
        sql, kind, copy = writing.one(rng, kinds, tables, taste)
        # a failed statement ends its transaction: under a savepoint of its own it does not
        guarded = rng.random() < 0.5
        if guarded:
            add("savepoint guard")
        add(sql, kind, copy=copy)
        if guarded:
            add("?rollback to guard")
    if muted:
        add("create temp table muted (i int4) on commit drop", "mute")
        add("set local rowcast.mute = 'on'", "mute")
        add("insert into muted values (1)", "mute")
        add("set local rowcast.mute = 'off'", "mute")
    if kinds.may(rng, "publish", 0.3) and session < 2:
        add(
            f"select rowcast.publish(name, 'spoken', '{{\"a\":\"x\"}}') from rowcast.channel where name = {literal(rng.choice(tables).channel)}",
            "publish",
            "subject",
        )
        add("select rowcast.notify('7', 'hello', '[1]')", "publish", "subject")
    if rng.random() < 0.05:
        for sql in writing.temporary(rng, rng.choice(tables), taste):
            add(sql)
    if kinds.may(rng, "two-phase", 0.2):
        # stays prepared while others write; a session that meets its locks gives up after a while, with and without us
        add(f"prepare transaction '{{database}} {number}'", "two-phase")
        add("rollback", "two-phase")
    elif kinds.may(rng, "two-phase", 0.4):
        add(f"prepare transaction '{{database}} {number}'", "two-phase")
        add(f"{rng.choice(('commit', 'commit', 'rollback'))} prepared '{{database}} {number}'", "two-phase")
        add("rollback", "two-phase")  # where it could not be prepared
    else:
        add(rng.choice(("commit", "commit", "commit", "commit", "rollback")))
    return tuple(steps)


def order(rng: random.Random, turns: list[Turn], interleaved: bool) -> list[tuple[int, int]]:
    """In which order the steps run: turns of different sessions may be open at once, but none beside DDL."""
    result: list[tuple[int, int]] = []
    open_turns: list[list[tuple[int, int]]] = []
    for number, turn in enumerate(turns):
        steps = [(number, step) for step in range(len(turn))]
        alone = not interleaved or is_alone(turn) or any(step.kind == "two-phase" for step in turn)
        if alone or len(open_turns) > 2 or any(turns[each[0][0]][0].session == turn[0].session for each in open_turns):
            result += weave(rng, open_turns)
            open_turns = []
        if alone:
            result += steps
        else:
            open_turns.append(steps)
    return result + weave(rng, open_turns)


def weave(rng: random.Random, several: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """One of the ways to run them at once."""
    rest, result = [list(each) for each in several], []
    while rest := [each for each in rest if each]:
        result.append(rng.choice(rest).pop(0))
    return result


class Listening:
    """Draws the subscribers."""

    def __init__(self, planner: Planner, tables: list[Table]) -> None:
        self._planner, self._tables = planner, tables
        self._rng, self._kinds = planner.rng, planner.kinds

    def draw(self) -> list[Follow]:
        """One plain subscriber for each channel, and others."""
        rng, kinds, socket = self._rng, self._kinds, 0
        turns = len(self._planner.plan.turns)
        follows = []
        for table in self._tables:
            if not table.is_watched:
                continue
            for copy in range(rng.choice((1, 2, 3))):
                socket += 1
                begins = rng.randrange(turns) if copy and kinds.may(rng, "late", 0.5) else 0
                follow = Follow(
                    table.channel, table.number, socket, begins, old=not table.has_key or rng.random() < 0.4
                )
                if copy and kinds.may(rng, "filters", 0.6):
                    follow = self._filtered(follow, table)
                if copy and kinds.may(rng, "away", 0.6):
                    follow = replace(follow, drops=tuple(self._absences(begins, turns)))
                if copy and kinds.may(rng, "sse", 0.4):
                    follow = replace(follow, is_stream=True)
                follows.append(follow)
        if kinds.may(rng, "many", 0.8) and follows:
            seen: set[str] = set()
            for follow in list(follows):
                if follow.channel not in seen:
                    seen.add(follow.channel)
                    follows.append(
                        replace(
                            follow, socket=99, begins=0, drops=((turns // 2, turns // 2),) if "away" in kinds else ()
                        )
                    )
        if kinds.may(rng, "users", 0.8):
            follows += [Follow("", -1, socket + 1 + each, user=user) for each, user in enumerate(("1", "7"))]
        return follows

    def _absences(self, begins: int, turns: int) -> list[tuple[int, int]]:
        result, at = [], begins
        for _ in range(self._rng.choice((1, 1, 2))):
            leaves = at + self._rng.randrange(1, max(2, turns // 2))
            returns = leaves + self._rng.randrange(0, max(1, turns // 3))
            if leaves >= turns:
                break
            result.append((leaves, min(returns, turns - 1)))
            at = returns + 1
        return result

    def _filtered(self, follow: Follow, table: Table) -> Follow:
        rng = self._rng
        if not table.has_key:
            return follow
        candidates = [
            column
            for column in table.columns
            if column.type.filters
            and column.name not in table.hidden
            and column.role in ("", "key", "count", "split", "fixed")
            and not set(column.name) & set(",()=\"'\\ &")
        ]
        conditions: list[tuple[str, str, str, str]] = []
        columns: tuple[str, ...] = ()
        for column in rng.sample(candidates, min(len(candidates), rng.choice((1, 1, 2)))):
            name, operator, value, sql = self._condition(column)
            if rng.random() < 0.25:
                operator, sql = f"not.{operator}", f"not ({sql})"
            conditions.append((name, operator, value, sql))
        if rng.random() < 0.3:
            word = rng.choice(("or", "and"))
            members = ",".join(f'"{name}".{operator}.{value}' for name, operator, value, _ in conditions)
            sql = f" {word} ".join(f"({sql})" for *_, sql in conditions)
            negated = rng.random() < 0.3
            conditions = [(f"not.{word}" if negated else word, "", f"({members})", f"not ({sql})" if negated else sql)]
        if rng.random() < 0.4 and not any("," in column.name for column in table.columns):
            shown = {
                column.name
                for column in rng.sample(table.columns, min(2, len(table.columns)))
                if column.name not in table.hidden
            }
            columns = tuple(sorted({column.name for column in table.keys} | shown))
        return replace(follow, conditions=tuple(conditions), columns=columns, old=False)

    def _condition(self, column: Column) -> tuple[str, str, str, str]:
        rng = self._rng
        plain = {
            "int4": "13",
            "int8": "20",
            "int2": "17",
            "bool": "true",
            "numeric": "1.5",
            "numeric(12,3)": "1.5",
            "date": "2024-01-31",
            "float8": "0.1",
            "uuid": "00000000-0000-0000-0000-000000000001",
            'public."Mood"': "ok",
            "public.positive": "13",
            "timestamp": "1970-01-01T00:00:00",
            "timestamptz": "1970-01-01T02:30:00+05:30",
            "time": "10:20:30",
            "float4": "1.5",
            "inet": "10.0.0.1",
            "macaddr": "08:00:2b:01:02:03",
            "name": "a",
            "char(5)": rng.choice(("a", "ccccc")),
        }.get(column.type.sql, "aa")
        is_text = column.type.sql in ("text", "varchar(40)")
        operator = rng.choice(column.type.filters.split())
        ident = f'{column.ident} collate "C"' if is_text else column.ident
        constant = f"{literal(plain)}::{column.type.sql}"
        if column.type.sql in ("date", "timestamp", "timestamptz"):
            sign, name = rng.choice(((">", "gt"), (">=", "gte"), ("<", "lt"), ("<=", "lte"), ("=", "eq")))
            return column.name, name, plain, f"{ident} {sign} {constant}"
        if operator == "eq":
            negated = rng.random() < 0.3
            return column.name, "neq" if negated else "eq", plain, f"{ident} {'<>' if negated else '='} {constant}"
        if operator == "gt":
            sign, name = rng.choice(((">", "gt"), (">=", "gte"), ("<", "lt"), ("<=", "lte")))
            return column.name, name, plain, f"{ident} {sign} {constant}"
        if operator == "in":
            others = [plain] if column.type.sql not in ("int4", "int8") else [plain, "7", "21", "1"]
            return (
                column.name,
                "in",
                f"({','.join(others)})",
                f"{ident} in ({', '.join(f'{literal(each)}::{column.type.sql}' for each in others)})",
            )
        if operator == "like":
            return column.name, "like", "*a*", f"{column.ident}::text collate \"C\" like '%a%'"
        word, sql = rng.choice((("null", "is null"), ("not_null", "is not null")))
        return column.name, "is", word, f"{column.ident} {sql}"
