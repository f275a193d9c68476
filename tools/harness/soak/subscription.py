"""One client's hold on one channel: its place in the stream, its copy of the table, and what was wrong with what it got.

Takes messages, knows no socket and no database. What it must have received in all is the verdict's business; what
one message tells by itself is told here: that it came before, that its row's version is not the next one.
"""

import time
from collections import Counter
from functools import total_ordering
from typing import Any

EVIDENCE = 5  # of each sort of mistake, so many are described


class Ids:
    """A set of outbox ids, a bit each: a long run has millions of them at every subscriber."""

    def __init__(self, numbers: Any = ()) -> None:
        self._bits = bytearray()
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> bool:
        """Whether it was not there yet."""
        at, bit = number >> 3, 1 << (number & 7)
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 4096 - len(self._bits)))
        if self._bits[at] & bit:
            return False
        self._bits[at] |= bit
        return True

    def update(self, other: Any) -> None:
        """Adds another set's."""
        self._bits = bytearray(
            (self._number() | other._number()).to_bytes(max(len(self._bits), len(other._bits)), "little")
        )

    def without(self, other: Any) -> tuple[Any, ...]:
        """How many another set has not, and the first of them."""
        rest = self._number() & ~other._number()
        count = bin(rest).count("1")
        first: list[int] = []
        while rest and len(first) < EVIDENCE:
            first.append((rest & -rest).bit_length() - 1)
            rest &= rest - 1
        return count, first

    def __len__(self) -> Any:
        return bin(self._number()).count("1")

    def _number(self) -> Any:
        return int.from_bytes(self._bits, "little")


class Subscription:
    """Where it has a base, it has a copy of the table: the base and all changes since, applied in the order in which they
    came. The base is a snapshot, or the table as it was before the first write."""

    def __init__(self, channel: Any, tally: Any, complain: Any, first_rows: Any = None) -> None:
        self.channel = channel
        self.from_the_start = first_rows is not None
        self.based_at = 0.0  # seconds since 1970: whatever is captured later is not in the base
        self.copy: Any = None if first_rows is None else dict(first_rows)
        self.place: Any = None  # cursor of the last message that was processed; None: there is nothing to resume from
        self.ids = Ids()  # since the base
        self.all_ids = Ids()  # of earlier bases
        self.last_id = 0
        self.mistakes: Counter[Any] = Counter()
        self.evidence: list[Any] = []
        self.suspects: list[Any] = []  # ids at which a mistake was noticed
        self._tally, self._complain = tally, complain
        self._doubts: list[Any] = []  # changes of rows that the copy does not have
        self.refused = False  # a node had no rows for it: it has to ask another one
        self.connect(None, False)

    # Connecting

    def wish(self, wants_rows: Any) -> dict[str, Any]:
        """What it subscribes with, besides its place."""
        return {"snapshot": True} if wants_rows else {}

    def forget(self) -> None:
        """Gives up its base: it wants a new snapshot."""
        self.all_ids.update(self.ids)
        self.ids = Ids()
        self.copy = self.place = None
        self.based_at = float("inf")
        self.from_the_start = False
        self._doubts.clear()

    def connect(self, since: Any, snapshot: Any) -> None:
        """A connection begins, asking for this. What it asks for decides what may come."""
        self._since, self._snapshot = since, snapshot
        self.joined = False
        self.astray = False  # a gap, and this connection will bring no snapshot
        self._gap = self._loaded = False
        self._loading: Any = None
        self._replayed = 0

    # Messages

    def take(self, message: dict[str, Any]) -> None:
        """Processes a message that is meant for this channel."""
        kind = message["type"]
        if kind == "realtime_update":
            self._update(message)
        elif kind == "subscribed":
            self._subscribed(message)
        elif kind in ("heartbeat", "cut"):
            self._move(message)
        elif kind in ("snapshot", "rows"):
            self._rows(message)
        elif kind == "gap":
            if self._loaded and not self.joined:
                self._complain(f"{self.channel.name}: a gap ({message['reason']}) between the snapshot and its stream")
            self.forget()
            self._gap = True
            self.astray = self.joined or self._loaded or not self._snapshot

    def refuse(self) -> None:
        """This node has no rows."""
        if self.copy is not None or self.joined or not self._snapshot or self._since and not self._gap:
            self._complain(f"{self.channel.name}: rows are refused that were not asked for, or without a gap before it")
        self._tally["snapshots refused"] += 1
        self.refused = self.astray = True

    def _move(self, message: dict[str, Any]) -> None:
        if self.copy is not None:
            self.place = message["cursor"]

    def _update(self, message: dict[str, Any]) -> None:
        self._tally["messages"] += 1
        if self.copy is None:
            if not self.astray:
                self._complain(f"{self.channel.name}: a change before the snapshot was complete: {message}")
            return
        if not self.joined:
            self._replayed += 1
        self.last_id = max(self.last_id, message["id"])
        if self.ids.add(message["id"]):
            self._apply(message["id"], message["action"], message["data"])
        else:
            self._mistake("repeated", f"id {message['id']} came again")
        self._move(message)

    def _subscribed(self, message: dict[str, Any]) -> None:
        self.joined = True
        if self.copy is None:
            if not self.astray:
                self._complain(f"{self.channel.name}: subscribed before the snapshot was complete: {message}")
        elif self._since and not self._gap:
            if message["recovered"] is not True:
                self._complain(f"{self.channel.name}: neither recovered nor a gap: {message}")
            elif message["replayed"] != self._replayed:
                self._complain(f"{self.channel.name}: {self._replayed} changes were replayed: {message}")
            else:
                self._tally["resumed"] += 1
                self._tally["replayed"] += self._replayed
        self._move(message)

    def _rows(self, message: dict[str, Any]) -> None:
        if self._loading is None:
            if not self._snapshot or self._since and not self._gap:
                self._complain(f"{self.channel.name}: a snapshot that was not asked for, or without a gap before it")
            self.forget()
            self._loading = {}
        for row in message["rows"]:
            key = row[self.channel.key]
            if key in self._loading:
                self._mistake("repeated", f"row {key} is twice in a snapshot")
            self._loading[key] = row
        if message["last"]:
            self.copy = {key: row for key, row in self._loading.items() if not self.channel.is_secret(row)}
            self._loading, self._loaded, self.refused = None, True, False
            self.based_at = time.time()
            self.place = message["cursor"]
            self._tally["snapshots"] += 1
            self._tally["snapshot rows"] += len(self.copy)

    # Changes

    def _apply(self, number: int, action: Any, row: dict[str, Any]) -> None:
        if action == "truncated":
            # A snapshot that a TRUNCATE overtakes reads no rows, so that changes from before it find none: TRUNCATE is
            # not MVCC-safe. From here on all is well.
            self._doubts.clear()
            self.copy.clear()
            return
        key, version = row[self.channel.key], row[self.channel.version]
        before = self.copy.get(key)
        if self.channel.is_secret(row):
            self._mistake("invented", f"id {number}: row {key} was written under rowcast.mute")
        elif action == "created":
            if before is not None:
                self._mistake("disordered", f"id {number}: row {key} is created, and it was there")
            self.copy[key] = row
        elif before is None:
            self._doubts.append(f"id {number}: row {key} is {action}, and it was not there")
            if action == "updated":
                self.copy[key] = row
        else:
            missed = version - before[self.channel.version] - (action == "updated")
            if missed < 0:
                self.suspects.append(number)
                self._mistake(
                    "disordered",
                    f"id {number}: row {key} is {action} with version {version} after {before[self.channel.version]}",
                )
            elif missed > 0:
                self.suspects.append(number)
                self._mistake(
                    "lost",
                    f"id {number}: row {key} is {action} with version {version} after {before[self.channel.version]}",
                    missed,
                )
            if action == "updated":
                self.copy[key] = row
            else:
                del self.copy[key]

    def settle(self) -> None:
        """The run is over: no TRUNCATE will explain the rows that were not there."""
        for doubt in self._doubts:
            self._mistake("lost", doubt)
        self._doubts.clear()

    def next_page(self) -> dict[str, Any] | None:
        """The command for rows that it asks for now, if it asks for any."""
        return None

    def has_caught_up(self, key: Any, written: float) -> bool:
        """Whether it has the row that was written last, at this moment."""
        return self.copy is not None and key in self.copy

    def shown(self, rows: dict[Any, Any]) -> tuple[dict[Any, Any] | None, dict[Any, Any]]:
        """What it shows, and what it has to show of a table with these rows."""
        return self.copy, rows

    def _mistake(self, sort: Any, text: str, count: int = 1) -> None:
        self.mistakes[sort] += count
        if len(self.evidence) < 4 * EVIDENCE:
            self.evidence.append(f"{sort}: {text}")


class Paged(Subscription):
    """One that asks for no snapshot: it listens from now on, and reads the table page by page meanwhile. A row that a change has
    touched since a page was asked for stays as that has left it; any other row of the page is right, and where it is known
    already it is as it was."""

    LIMIT = 60

    def connect(self, since: Any, snapshot: Any) -> None:
        super().connect(since, False)
        if self.copy is None:
            # another node's stream may begin a little before the place that this one had come to
            self.all_ids.update(self.ids)
            self.ids = Ids()
            self._partial: dict[Any, Any] = {}
        self._after: Any = None
        self._asked = False
        self._reached: Any = None  # the last cursor of the channel
        self._touched: set[Any] = set()

    def next_page(self) -> dict[str, Any] | None:
        if self.copy is not None or not self.joined or self._asked or self.astray:
            return None
        self._asked, self._touched = True, set()
        after = {} if self._after is None else {"after": self._after}
        return {"type": "rows", "channel": self.channel.name, "limit": self.LIMIT, **after, "ref": self.channel.name}

    def wish(self, wants_rows: Any) -> dict[str, Any]:
        return {}

    def ask_again(self) -> None:
        """The page did not come: the server lost its database meanwhile."""
        self._asked = False

    def refuse(self) -> None:
        self._tally["snapshots refused"] += 1
        self.refused = self.astray = True

    def _subscribed(self, message: dict[str, Any]) -> None:
        if self.copy is not None:
            super()._subscribed(message)
        self.joined, self._reached = True, message["cursor"]

    def _move(self, message: dict[str, Any]) -> None:
        super()._move(message)
        self._reached = message["cursor"]

    def _update(self, message: dict[str, Any]) -> None:
        if self.copy is not None:
            super()._update(message)
            return
        self._tally["messages"] += 1
        self._reached = message["cursor"]
        self.last_id = max(self.last_id, message["id"])
        if not self.ids.add(message["id"]):
            self._mistake("repeated", f"id {message['id']} came again")
        row = message["data"]
        if message["action"] == "truncated":
            # rows that a page has yet to tell were there before, or are told as created
            self._touched.update(self._partial)
            self._partial.clear()
        elif message["action"] == "deleted":
            self._partial.pop(row[self.channel.key], None)
            self._touched.add(row[self.channel.key])
        else:
            self._partial[row[self.channel.key]] = row
            self._touched.add(row[self.channel.key])

    def _rows(self, message: dict[str, Any]) -> None:
        if self.copy is not None or not self._asked:
            self._complain(f"{self.channel.name}: rows that were not asked for: {message}")
            return
        for row in message["rows"]:
            key = row[self.channel.key]
            if key in self._touched:
                continue
            known = self._partial.get(key)
            if known is not None and known != row:
                self._mistake("disordered", f"row {key} was {known}, no change has touched it, and a page has {row}")
            self._partial[key] = row
        if not message["last"]:
            return
        self._asked = False
        self._tally["pages"] += 1
        if message["rows"]:
            last = message["rows"][-1]
            self._after = {by["column"]: last[by["column"]] for by in message["order"]}
        if not message["more"]:
            secret = self.channel.is_secret
            self.copy = {key: row for key, row in self._partial.items() if not secret(row)}
            self._loaded, self.refused = True, False
            self.based_at = time.time()
            self.place = self._reached  # what comes behind it is not in the rows, or has touched them
            self._tally["tables read in pages"] += 1


@total_ordering
class Descending:
    """A value that comes before those that are less."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descending) and self.value == other.value

    def __lt__(self, other: "Descending") -> bool:
        return bool(self.value > other.value)


class Windowed(Subscription):
    """One that shows the first rows in an order, by the last version. It holds all rows up to a known end, `_end`, and some more than
    it shows; where too few are left it asks for the page behind the end. There too a row that a change has touched since stays as
    that has left it."""

    LIMIT = 12
    SURPLUS = 10
    _newest: Any = None  # key of the row that was created last

    def wish(self, wants_rows: Any) -> dict[str, Any]:
        return {"rows": {"order": f"{self.channel.version}.desc", "limit": self.LIMIT + self.SURPLUS}}

    def connect(self, since: Any, snapshot: Any) -> None:
        super().connect(since, True)
        if self.copy is None:
            self._order: list[dict[str, Any]] = []
            self._end: Any = None  # a row; all lie before it where there is none
        self._touched: dict[Any, Any] | None = None  # key → row or None, since a page was asked for
        self._part: list[Any] = []  # of a page whose last message has not come

    def next_page(self) -> dict[str, Any] | None:
        is_short = self.copy is not None and len(self.copy) < self.LIMIT + self.SURPLUS // 2
        if not is_short or not self.joined or self._touched is not None or self._end is None or self.astray:
            return None
        self._touched = {}
        after = {by["column"]: self._end[by["column"]] for by in self._order}
        order = ",".join(by["column"] + (".desc" if by["desc"] else "") for by in self._order)
        return {
            "type": "rows",
            "channel": self.channel.name,
            "order": order,
            "limit": self.LIMIT + self.SURPLUS,
            "after": after,
            "ref": [self.channel.name, "more"],
        }

    def ask_again(self) -> None:
        """Its rows did not come: the server lost its database meanwhile."""
        self._touched = None
        self.astray = self.copy is None

    def refuse(self) -> None:
        self._tally["snapshots refused"] += 1
        self.refused = self.astray = True

    def has_caught_up(self, key: Any, written: float) -> bool:
        has_last = key == self._newest or self.based_at > written
        return self.joined and self.copy is not None and has_last and self._touched is None

    def shown(self, rows: dict[Any, Any]) -> tuple[dict[Any, Any] | None, dict[Any, Any]]:
        return (None if self.copy is None else self._first(self.copy), self._first(rows))

    def _first(self, rows: dict[Any, Any]) -> dict[Any, Any]:
        return {row[self.channel.key]: row for row in sorted(rows.values(), key=self._place)[: self.LIMIT]}

    def _place(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(Descending(row[by["column"]]) if by["desc"] else row[by["column"]] for by in self._order)

    def _rows(self, message: dict[str, Any]) -> None:
        name, key = self.channel.name, self.channel.key
        self._part += message["rows"]
        if not message["last"]:
            return
        rows, self._part = self._part, []
        if message.get("ref") != [name, "more"]:
            if self.copy is not None:
                self._complain(f"{name}: rows that were not asked for: {message}")
            self._order = message["order"]
            self.copy = {row[key]: row for row in rows}
            self._end = rows[-1] if message["more"] else None
            self._loaded, self.refused = True, False
            self.based_at = time.time()
            self.place = message["cursor"]
            self._tally["windows opened"] += 1
            return
        if self._touched is None or self.copy is None:
            self._complain(f"{name}: a page that was not asked for: {message}")
            return
        touched, self._touched = self._touched, None
        if self._end is None:
            return  # the table was emptied meanwhile, and what came since is known
        self._tally["windows grown"] += 1
        self._end = rows[-1] if message["more"] else None
        for row in rows:
            known = self.copy.get(row[key])
            if known is not None and row[key] not in touched and known != row:
                self._mistake(
                    "disordered", f"row {row[key]} was {known}, no change has touched it, and a page has {row}"
                )
            self._put(row[key], touched.get(row[key], row))
        for number, row in touched.items():
            self._put(number, row)

    def _apply(self, number: int, action: Any, row: dict[str, Any]) -> None:
        if action == "truncated":
            self.copy, self._end = {}, None
            if self._touched is not None:
                self._touched = {}
            return
        key, version = row[self.channel.key], row[self.channel.version]
        before = self.copy.get(key)
        if before is not None and version - before[self.channel.version] != (action == "updated"):
            self.suspects.append(number)
            self._mistake(
                "lost",
                f"id {number}: row {key} is {action} with version {version} after {before[self.channel.version]}",
            )
        if action == "created":
            self._newest = key
        left = None if action == "deleted" else row
        self._put(key, left)
        if self._touched is not None:
            self._touched[key] = left

    def _put(self, key: Any, row: Any) -> None:
        self.copy.pop(key, None)
        if row is None or self._end is not None and self._place(row) > self._place(self._end):
            return
        self.copy[key] = row
        if self._touched is None and len(self.copy) > self.LIMIT + 2 * self.SURPLUS:
            first = sorted(self.copy.values(), key=self._place)[: self.LIMIT + self.SURPLUS]
            self.copy, self._end = {each[self.channel.key]: each for each in first}, first[-1]
