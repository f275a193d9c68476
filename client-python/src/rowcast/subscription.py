"""The changes of a channel, or the notifications of a user."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .error import RowcastError, attempt
from .messages import Message, Name, Row, Subscribed

Item = TypeVar("Item")


@dataclass(frozen=True)
class Wish:
    """What a subscription asks for."""

    channel: str
    filter: list[str] | None = None
    columns: list[str] | None = None
    old: bool = False
    snapshot: bool = False
    changed: bool = False
    latest: bool = False
    every: int | None = None

    @property
    def view(self) -> str | None:
        """The name of this view of the channel. Those who ask for the same have the same name, so that the server
        writes their messages once.
        """
        telling = [self.changed, self.latest, self.every] if self.changed or self.latest else []
        if not (self.filter or self.columns or self.old or telling):
            return None
        asked = json.dumps([self.filter or [], self.columns or [], self.old, *telling], ensure_ascii=False)
        return base64.urlsafe_b64encode(hashlib.sha256(asked.encode()).digest()[:9]).decode()


class Carrier(Protocol):
    """What a subscription needs of the connection that carries it."""

    def remove(self, subscription: AnySubscription) -> None: ...

    def rejoin(self, subscription: AnySubscription) -> None: ...


@dataclass
class Handlers(Generic[Item]):
    """What is called with what comes."""

    change: Callable[[Item], object] | None = None
    snapshot: Callable[[list[Row]], object] | None = None
    ready: Callable[[Subscribed], object] | None = None
    resync: Callable[[str], object] | None = None
    error: Callable[[RowcastError], object] | None = None
    #: all that came is the database at one moment: shows it, and returns what tells of it
    cut: Callable[[], Callable[[], None]] | None = None
    #: it has ended
    end: Callable[[RowcastError], None] | None = None


class Subscription(Generic[Item]):
    """Changes in order and each once, over lost connections: for a listener, or for `async for`. Owns the position in
    that stream and what a message means; sockets are the connection's.
    """

    def __init__(self, wish: Wish, parse: Callable[[Message], Item], handlers: Handlers[Item], since: str | None, backlog: int) -> None:
        self.wish = wish
        self._parse = parse
        self._handlers = handlers
        self._limit = backlog
        self.connection: Carrier | None = None
        #: what it is called on its socket; the connection gives it
        self.name: Name = (wish.channel, wish.view)
        #: the server has said something since it was asked
        self.is_answered = False
        #: every change follows
        self.is_live = False
        #: they did, at some time
        self.was_live = False
        #: what came is shown cut by cut, and something is
        self.is_shown = False
        #: what is shown is of a moment since it began, or began anew
        self.is_current = False
        self._place = since  # where the server goes on after a lost connection
        self._cursor = since
        self._rows: list[Row] = []  # of the snapshot that is arriving
        self._part: str | None = None  # where the snapshot goes on after a lost connection, behind so many of its rows
        self._kept = 0
        self._gap: str | None = None  # told when the subscription is live, so that what is loaded then has no hole
        self._waiting: deque[tuple[Item, str]] = deque()  # for the iterator, each with the cursor after it
        self._taken: str | None = None  # the cursor after what the reader deals with
        self._is_idle = False
        self._arrived = asyncio.Event()
        self._end: RowcastError | None = None
        self._ready: asyncio.Future[Subscribed] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(lambda ready: ready.exception())  # nobody may be waiting

    @property
    def channel(self) -> str:
        return self.wish.channel

    @property
    def ready(self) -> Awaitable[Subscribed]:
        """Comes with the first `subscribed`, or raises what ended the subscription before."""
        return asyncio.shield(self._ready)

    @property
    def cursor(self) -> str | None:
        """The position up to which everything was dealt with: all that came, less what waits for the iterator or is in
        its reader's hands. To be kept, and given as `since`.
        """
        return self._cursor

    def close(self) -> None:
        """Ends it. An iterator takes what has come and ends too."""
        self.end()

    def __enter__(self) -> Subscription[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        if self._taken:
            self._cursor, self._taken = self._taken, None
        while not self._waiting:
            if self._end:
                if self._end.code == "closed":
                    raise StopAsyncIteration
                raise self._end
            self._is_idle = True
            self._cursor = self._place
            self._arrived.clear()
            await self._arrived.wait()
        self._is_idle = False
        item, self._taken = self._waiting.popleft()
        return item

    # What follows is the connection's to call.

    def begin(self) -> Message:
        """Begins, or goes on: the command that asks for it."""
        self.is_answered = self.is_live = self.is_current = False
        del self._rows[self._kept:]
        wish = self.wish
        asked = {"view": self.name[1], "since": self._part or self._place, "partial": wish.snapshot, "filter": wish.filter, "columns": wish.columns,
                 "old": wish.old, "changed": wish.changed, "latest": wish.latest, "every": wish.every, "snapshot": wish.snapshot}
        return {"type": "subscribe", "channel": wish.channel, **{key: value for key, value in asked.items() if value}, "ref": self.name}

    def receive(self, message: Message) -> None:
        self.is_answered = True
        kind = message["type"]
        if kind in ("realtime_update", "notification"):
            self._hand(self._parse(message), message["cursor"])
        elif kind == "snapshot":
            self._rows += message["rows"]
            if not message["last"]:
                # a cursor among the rows is no position in the stream
                if cursor := message.get("cursor"):
                    self._part, self._kept = cursor, len(self._rows)
                return
            rows = self._rows
            self._forget_rows()
            if self._handlers.snapshot:
                attempt(self._handlers.snapshot, rows)
        elif kind == "gap":
            self._missed(message["reason"])
        if cursor := message.get("cursor"):
            self._move_to(cursor)
        if kind == "subscribed":
            self._joined(Subscribed(message["cursor"], message["recovered"], message["replayed"]))

    def cut(self) -> Callable[[], None] | None:
        """Shows what came, where it is shown by cuts; what is returned tells of it."""
        if not self._handlers.cut or not self.is_live:
            return None
        self.is_shown = self.is_current = True
        return self._handlers.cut()

    def tell(self, error: RowcastError) -> None:
        if self._handlers.error:
            attempt(self._handlers.error, error)

    def end(self, error: RowcastError | None = None) -> None:
        if self._end:
            return
        self._end = error or RowcastError("closed", f"{self.channel} was closed")
        if self.connection:
            self.connection.remove(self)
        self._arrived.set()
        if not self._ready.done():
            self._ready.set_exception(self._end)
        if self._handlers.end:
            self._handlers.end(self._end)
        if error:
            self.tell(error)

    def _hand(self, item: Item, place: str) -> None:
        if self._handlers.change:
            attempt(self._handlers.change, item)
        elif len(self._waiting) < self._limit:
            self._waiting.append((item, place))
            self._is_idle = False
            self._arrived.set()
        else:
            self.end(RowcastError("behind", f"the iterator of {self.channel} is more than {self._limit} changes behind"))

    def _joined(self, subscribed: Subscribed) -> None:
        gap, self._gap = self._gap, None
        self.is_live = self.was_live = True
        self.is_current = not self._handlers.cut
        if not self._ready.done():
            self._ready.set_result(subscribed)
        if gap is not None:
            self._resync(gap)
        if self._handlers.ready:
            attempt(self._handlers.ready, subscribed)

    def _missed(self, reason: str) -> None:
        if self.wish.snapshot:
            # as the answer to a cursor, the rows follow by themselves. From now on it is not what the table is
            was_live = self.is_live
            self.is_live = self.is_current = False
            if was_live and self.connection:
                self.connection.rejoin(self)
            self._waiting.clear()
            self._taken = self._place = self._cursor = None
            self._forget_rows()
            self._resync(reason)
        elif self.is_live:
            self._resync(reason)
        else:
            self._gap = reason

    def _forget_rows(self) -> None:
        self._rows, self._part, self._kept = [], None, 0

    def _resync(self, reason: str) -> None:
        if self._handlers.resync:
            attempt(self._handlers.resync, reason)

    def _move_to(self, place: str) -> None:
        self._place = place
        if self._handlers.change or self._is_idle:
            self._cursor = place


AnySubscription = Subscription[Any]
