"""A subscriber: what it holds of a table, kept as docs/reference/protocol.md tells a client to, and what was wrong with what it got.

Takes messages, knows no socket and no database. A row's place in the map is its key; a table without one is a multiset,
for which `old` tells which row an update has replaced.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from .charset import as_told
from .plan import Follow

Row = dict[str, Any]


class Number(str):
    """A number as it was written: 1.0 is not 1.00."""


def parse(text: str) -> Any:
    """JSON without loss: numbers by their text, objects as tuples of pairs."""
    return json.loads(text, object_pairs_hook=tuple, parse_float=Number, parse_int=Number, parse_constant=Number)


def row_of(pairs: Any) -> Row:
    """A row by its columns, whose order may differ between a table and its partitions."""
    return dict(pairs)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same, but for the offset of a far timestamptz, which may be the writer's."""
    if one == other:
        return True
    if isinstance(one, str) and isinstance(other, str):
        return is_far(one) and is_far(other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return all(same(left, right) for left, right in zip(one, other))
    return False


def is_far(text: str) -> bool:
    """Whether it is a time before the year 1 or after 9999."""
    return re.match(r"-?\d{4,}-\d\d-\d\dT.*([+-]\d\d(:\d\d)*|Z)( BC)?$", text) is not None and (
        " BC" in text or re.match(r"\d{5,}", text) is not None
    )


def same_rows(one: Row, other: Row) -> bool:
    """Whether two rows are the same."""
    return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())


class Subscriber:
    """One channel on one socket, over all of its connections."""

    def __init__(self, follow: Follow) -> None:
        self.follow = follow
        self.key: list[str] = []  # columns; none: a multiset
        self.place: str | None = None
        self.rows: dict[str, Row] = {}
        self.many: Counter[str] = Counter()
        self.heard: list[str] = []  # the latest messages, for the report
        self.complaints: list[tuple[str, str]] = []  # (sort, what)
        self.ids: set[str] = set()
        self.is_blind = False  # it was refused the rows
        self.gone = ""  # why the channel is over for it
        self.gaps: Counter[str] = Counter()
        self.sentinel = ""
        self.down = 0
        self.is_loaded = self.is_joined = self.wants_rows = False
        self._hidden: Counter[tuple[str, str]] = Counter()
        self._loading = False
        self._gap = False

    def connect(self, key: list[str], fresh: bool) -> str:
        """A connection begins. Returns the cursor from which it goes on, or "" where it wants all rows."""
        self.key = key
        if fresh:
            self.place = None
        self.is_joined = self._loading = self._gap = self.wants_rows = False
        if self.place is None:
            self.is_loaded = False
        return self.place or ""

    def take(self, message: Row, text: str) -> None:
        """Processes a message of its channel."""
        self.heard = [*self.heard[-7:], text[:300]]
        kind = message["type"]
        if kind == "realtime_update":
            self._update(message)
        elif kind == "snapshot":
            self._snapshot(message)
        elif kind == "subscribed":
            self.is_joined = True
            if not self.is_loaded:
                self.is_blind = True
        elif kind == "gap":
            self.gaps[str(message["reason"])] += 1
            if self.is_joined:
                self.wants_rows = True
            self._gap = True
        elif kind == "error":
            self._error(message)
        if message.get("cursor") and not self.wants_rows:
            self.place = message["cursor"]

    def _error(self, message: Row) -> None:
        code = str(message["code"])
        if code == "no_snapshot":
            self.is_blind = True
        elif code == "source_down":
            self.down += 1
        else:
            self.gone = code

    def _snapshot(self, message: Row) -> None:
        if not self._loading:
            self.rows, self.many, self.ids = {}, Counter(), set()
            self._hidden.clear()
            self._loading, self.is_loaded, self.is_blind = True, False, False
        for pairs in message["rows"]:
            row = row_of(pairs)
            if self.key and self._key(row) in self.rows:
                self._complain("twice", f"a row is twice in a snapshot: {row}")
            self._put(row)
        if message["last"]:
            self._loading, self.is_loaded = False, True

    def _update(self, message: Row) -> None:
        action, tx = message["action"], str(message.get("tx"))
        number = str(message["id"])
        if number in self.ids and "failover" not in self.gaps:
            self._complain("twice", f"id {number} came again")
        self.ids.add(number)
        if action == "spoken":
            return
        if action == "sentinel":
            self.sentinel = str(dict(message["data"]).get("n", self.sentinel))
            return
        if self.wants_rows or self.is_blind:
            return
        if action == "truncated":
            self.rows, self.many = {}, Counter()
            self._hidden.clear()
            return
        row = row_of(message["data"])
        old = row_of(message["old"]) if message.get("old") is not None else None
        if not self.key:
            self._multiset(action, row, old)
        elif action in ("created", "entered"):
            self._enter(row, tx)
        elif action in ("deleted", "left"):
            self._leave(row, tx)
        elif action == "updated":
            if old is not None and self._key({**row, **old}) != self._key(row):
                self._leave({**row, **old}, tx)
                self._enter(row, tx)
            else:
                self._chain(number, row, old)
                self.rows[self._key(row)] = row
        else:
            self._complain("action", f"unknown action {action}")

    def _chain(self, number: str, row: Row, old: Row | None) -> None:
        held = self.rows.get(self._key(row))
        if old is not None and self.follow.old and held is not None and not same_rows(held, {**row, **old}):
            self._complain("chain", f"id {number}: `old` tells {old}, beside {row}, the subscriber has {held}")

    def _multiset(self, action: str, row: Row, old: Row | None) -> None:
        if action in ("deleted", "left", "updated"):
            before = text_of({**row, **(old or {})})
            self.many[before] -= 1
        if action in ("created", "entered", "updated"):
            self.many[text_of(row)] += 1

    def _put(self, row: Row) -> None:
        if self.key:
            self.rows[self._key(row)] = row
        else:
            self.many[text_of(row)] += 1

    def _enter(self, row: Row, tx: str) -> None:
        key = self._key(row)
        if key in self.rows:
            self._hidden[tx, key] += 1
        self.rows[key] = row

    def _leave(self, row: Row, tx: str) -> None:
        key = self._key(row)
        if self._hidden[tx, key] > 0:
            self._hidden[tx, key] -= 1
        else:
            self.rows.pop(key, None)

    def _key(self, row: Row) -> str:
        return repr([row.get(name) for name in self.key])

    def _complain(self, sort: str, what: str) -> None:
        if len(self.complaints) < 5:
            self.complaints.append((sort, what[:700]))

    def forget(self, hidden: set[str]) -> None:
        """What it was told of columns before they were excluded does not count."""
        for row in self.rows.values():
            for name in hidden & row.keys():
                del row[name]

    def differs(self, truth: list[Row]) -> str:
        """What it holds otherwise than the table, or ""."""
        if not self.key:
            have, want = +self.many, Counter(text_of(row) for row in truth)
            missing, extra = want - have, have - want
            if any(value < 0 for value in self.many.values()):
                return f"rows that it never had were taken away: {[key for key, value in self.many.items() if value < 0][:2]}"
            return f"missing {list(missing)[:2]}, too much {list(extra)[:2]}" if missing or extra else ""
        want_rows = {self._key(row): row for row in truth}
        for key in [*want_rows, *self.rows]:
            if key not in self.rows:
                return f"has not {want_rows[key]}"
            if key not in want_rows:
                return f"has {key} of {len(self.rows)}, which the table has not ({len(want_rows)})"
            if not same_rows(self.rows[key], want_rows[key]):
                mine, its = self.rows[key], want_rows[key]
                names = [
                    name for name in {**mine, **its} if not same(mine.get(name, "absent"), its.get(name, "absent"))
                ]
                return f"row {key}: has {[(name, mine.get(name, 'absent')) for name in names]}, the table {[(name, its.get(name, 'absent')) for name in names]}"
        return ""


def text_of(row: Row) -> str:
    """A row as one text that is the same for the same row."""
    return repr(
        sorted((name, "far" if isinstance(value, str) and is_far(value) else value) for name, value in row.items())
    )


def clean(text: str) -> str:
    """A text of the database as subscribers may see it."""
    return as_told(text)
