"""The rows of a table, kept equal to it."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .error import RowcastError, attempt
from .messages import Change, Row
from .subscription import Handlers, Subscription

#: What identifies a row: the value of its key column, or a tuple of several.
Key = Hashable
Event = TypeVar("Event")


@dataclass(frozen=True)
class Difference:
    """How a collection differs from what it was at the event before."""

    #: rows that are new or other than they were
    set: Mapping[Key, Row]
    #: rows that are gone, as they were
    removed: Mapping[Key, Row]


class Collection(Mapping[Key, Row]):
    """The rows of a table, as they were at some moment: it changes between transactions alone. While they are read anew
    after a gap, those that were known stay. A row that did not change stays the same object.
    """

    def __init__(
        self,
        key: str | Sequence[str] | Callable[[Row], Key],
        subscribe: Callable[[Handlers[Change]], Subscription[Change]],
        is_of_changed: bool = False,
    ) -> None:
        self._key = _to_key(key)
        self._is_of_changed = is_of_changed  # an update has the key and what differs
        self._rows: dict[Key, Row] = {}
        self._next: dict[Key, Row | None] = {}  # what came since: rows, and keys without one
        # Transaction and key → rows that have that key beside the newest one. Only at the commit has a deferrable primary
        # key to be unique: `id = id + 1` may come as 1 → 2 and then 2 → 3, which moves another row than the one at 2.
        self._hidden: Counter[tuple[str, Key]] = Counter()
        self._change_listeners: list[Callable[[Difference], object]] = []
        self._error_listeners: list[Callable[[RowcastError], object]] = []
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(lambda ready: ready.exception())  # nobody may be waiting
        self._subscription = subscribe(Handlers(change=self._apply, snapshot=self._replace, error=self._fail, cut=self._show, end=self._over))

    @property
    def ready(self) -> Awaitable[None]:
        """Comes when the rows are those of the table, or raises what ended the collection before."""
        return asyncio.shield(self._ready)

    def on_change(self, listener: Callable[[Difference], object]) -> Callable[[], None]:
        """Calls a listener once for each transaction that concerns the rows, or for several. All collections of the socket
        show the same moment by then. Returns what ends that.
        """
        return _listen(self._change_listeners, listener)

    def on_error(self, listener: Callable[[RowcastError], object]) -> Callable[[], None]:
        """Calls a listener with errors: `final` says whether the rows are followed no longer. Returns what ends that."""
        return _listen(self._error_listeners, listener)

    def close(self) -> None:
        """Follows the table no longer, and has no more events. The rows stay as they are."""
        self._change_listeners.clear()
        self._error_listeners.clear()
        self._subscription.close()

    def __getitem__(self, key: Key) -> Row:
        return self._rows[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _apply(self, change: Change) -> None:
        if change.action in ("created", "entered"):
            self._enter(change.data, change.tx)
        elif change.action == "updated":
            if change.old:
                self._leave({**change.data, **change.old}, change.tx)
                self._enter(change.data, change.tx)
            elif self._is_of_changed and not change.omitted:
                key = self._key(change.data)
                self._next[key] = {**(self._newest(key) or {}), **change.data}
            else:
                self._next[self._key(change.data)] = change.data
        elif change.action in ("deleted", "left"):
            self._leave(change.data, change.tx)
        elif change.action == "truncated":
            self._replace([])

    def _enter(self, row: Row, tx: str) -> None:
        key = self._key(row)
        if self._newest(key) is not None:
            self._hidden[tx, key] += 1
        self._next[key] = row

    def _leave(self, row: Row, tx: str) -> None:
        key = self._key(row)
        if self._hidden[tx, key] > 0:
            self._hidden[tx, key] -= 1
        else:
            self._next[key] = None

    def _replace(self, rows: list[Row]) -> None:
        self._hidden.clear()
        gone = {**dict.fromkeys(self._rows), **dict.fromkeys(self._next)}
        for row in rows:
            key = self._key(row)
            newest = self._newest(key)
            # in Python 1, 1.0 and True are equal
            is_known = key in gone and newest == row and json.dumps(newest) == json.dumps(row)
            gone.pop(key, None)
            if not is_known:
                self._next[key] = row
        self._next.update(gone)

    def _newest(self, key: Key) -> Row | None:
        return self._next[key] if key in self._next else self._rows.get(key)

    def _show(self) -> Callable[[], None]:
        """Takes over what came; what is returned tells the listeners."""
        new: dict[Key, Row] = {}
        removed: dict[Key, Row] = {}
        for key, row in self._next.items():
            before = self._rows.get(key)
            if row is before:
                continue
            if row is not None:
                new[key] = self._rows[key] = row
            elif before is not None:
                removed[key] = self._rows.pop(key)
        self._next.clear()
        self._hidden.clear()  # no transaction is half there

        def tell() -> None:
            if not self._ready.done():
                self._ready.set_result(None)
            if new or removed:
                for listener in list(self._change_listeners):
                    attempt(listener, Difference(new, removed))

        return tell

    def _fail(self, error: RowcastError) -> None:
        for listener in list(self._error_listeners):
            attempt(listener, error)

    def _over(self, reason: RowcastError) -> None:
        if not self._ready.done():
            self._ready.set_exception(reason)


def _listen(listeners: list[Callable[[Event], object]], listener: Callable[[Event], object]) -> Callable[[], None]:
    listeners.append(listener)
    return lambda: listeners.remove(listener) if listener in listeners else None


def _to_key(key: str | Sequence[str] | Callable[[Row], Key]) -> Callable[[Row], Key]:
    if callable(key):
        return key
    if isinstance(key, str):
        column = key
        return lambda row: row[column]
    columns = tuple(key)
    return lambda row: tuple(row[column] for column in columns)
