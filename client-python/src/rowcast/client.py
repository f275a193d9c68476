"""Subscriptions and collections of one server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .collection import Collection, Key
from .connection import Connection, State, Token, ask
from .error import RowcastError, attempt
from .messages import Change, Notification, Row, Subscribed, change_of, notification_of, user_channel
from .page import Page, read_page
from .subscription import AnySubscription, Handlers, Subscription, Wish

Item = TypeVar("Item")
#: The best first.
STATES: tuple[State, ...] = ("idle", "live", "source_down", "connecting")


def connect(url: str, *, token: Token | None = None) -> Client:
    """Connects to a rowcast server, such as `https://live.example.com`. A socket is opened with the first subscription.

    `token` is a JWT, or a function that is asked for one at each connection, and before one ends. It may be async.
    """
    return Client(url, token)


class Client:
    """Owns the connections that carry its subscriptions and collections: one, as long as the server allows that. Belongs to
    the event loop in which it is used first.
    """

    def __init__(self, url: str, token: Token | None) -> None:
        self.base = _base_of(url)
        self.token = token
        self._connections: list[Connection] = []
        self._ended: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[State], object]] = []
        self._state: State = "idle"
        self._is_closed = False

    @property
    def state(self) -> State:
        """How things stand: the worst of all subscriptions."""
        return self._state

    def on_state(self, listener: Callable[[State], object]) -> Callable[[], None]:
        """Calls a listener when the state has changed. Returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def subscribe(
        self,
        channel: str,
        *,
        filter: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        old: bool = False,
        changed: bool = False,
        latest: bool = False,
        every: int | None = None,
        snapshot: bool = False,
        since: str | None = None,
        backlog: int = 1_000,
        on_change: Callable[[Change], object] | None = None,
        on_snapshot: Callable[[list[Row]], object] | None = None,
        on_ready: Callable[[Subscribed], object] | None = None,
        on_resync: Callable[[str], object] | None = None,
        on_error: Callable[[RowcastError], object] | None = None,
    ) -> Subscription[Change]:
        """The changes of a channel, for `async for`, or for `on_change`.

        filter: only rows for which it holds, such as `user_id=eq.123`; of several, all of them
        columns: only these columns
        old: `updated` tells the columns that changed as they were
        changed: `updated` tells the key and the columns that differ, `deleted` and `left` the key
        latest: the newest change of each row, and a slow client is not cut off; neither with `old` nor with `changed`
        every: with `latest`: at most so often, in milliseconds; 500 where it is absent
        snapshot: the current rows first, and again after a gap
        since: resume after this cursor
        backlog: changes that may wait for the iterator
        on_snapshot: all current rows; the changes since follow, also some that are in the rows already
        on_ready: live: at the start, and after each lost connection
        on_resync: changes may be missing: load again what was made of them. With `snapshot` the rows follow by themselves
        on_error: `error.final` says whether the subscription has ended
        """
        wish = Wish(channel, _list(filter), _list(columns), old, snapshot, changed, latest, every)
        handlers = Handlers(change=on_change, snapshot=on_snapshot, ready=on_ready, resync=on_resync, error=on_error)
        return self._open(Subscription(wish, change_of, handlers, since, backlog))

    def notifications(
        self,
        user: str | int,
        *,
        since: str | None = None,
        backlog: int = 1_000,
        on_change: Callable[[Notification], object] | None = None,
        on_ready: Callable[[Subscribed], object] | None = None,
        on_resync: Callable[[str], object] | None = None,
        on_error: Callable[[RowcastError], object] | None = None,
    ) -> Subscription[Notification]:
        """The notifications of a user, for `async for`, or for `on_change`."""
        handlers = Handlers(change=on_change, ready=on_ready, resync=on_resync, error=on_error)
        return self._open(Subscription(Wish(user_channel(user)), notification_of, handlers, since, backlog))

    def collection(
        self,
        channel: str,
        *,
        key: str | Sequence[str] | Callable[[Row], Key],
        filter: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        changed: bool = False,
        latest: bool = False,
        every: int | None = None,
    ) -> Collection:
        """The rows of a channel's table, kept equal to it.

        key: the table's primary key: its column, its columns, or a function that makes a key of them
        filter, columns, changed, latest, every: as of a subscription; `columns` has to name the key
        """
        wish = Wish(channel, _list(filter), _list(columns), snapshot=True, changed=changed, latest=latest, every=every)
        return Collection(key, lambda handlers: self._open(Subscription(wish, change_of, handlers, None, 0)), changed)

    async def rows(
        self,
        channel: str,
        *,
        order: str | None = None,
        limit: int | None = None,
        after: Mapping[str, Any] | None = None,
        before: Mapping[str, Any] | None = None,
        filter: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        count: bool = False,
    ) -> Page:
        """Some of a channel's current rows, in an order. Follows nothing.

        order: such as `created_at.desc,name`; the primary key where it is absent
        limit: rows at most, 100 where it is absent
        after, before: a row, or its values in the columns of the order: the rows behind it, or before it
        filter, columns: as of a subscription; `columns` has to name those of the order
        count: how many rows there are is wanted, too
        """
        token = await ask(self.token) if callable(self.token) else self.token
        asked: dict[str, str | list[str] | None] = {
            "order": order, "limit": None if limit is None else str(limit), "after": _place(after), "before": _place(before),
            "filter": _list(filter), "columns": ",".join(columns) if columns else None, "count": "exact" if count else None}
        return await read_page("http" + self.base.removeprefix("ws"), channel, asked, token)

    def wake(self) -> None:
        """The machine may have slept, or the network be back: asks now whether the server is there."""
        for connection in self._connections:
            connection.wake()

    async def close(self) -> None:
        """Ends everything: subscriptions, collections, sockets."""
        self._is_closed = True
        for connection in list(self._connections):
            connection.close()
        if self._ended:
            await asyncio.wait(self._ended)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What follows is the connections' to call.

    def place(self, subscription: AnySubscription) -> None:
        """Finds a connection for a subscription."""
        found = next((connection for connection in self._connections if connection.takes(subscription)), None)
        if found:
            found.add(subscription)
        else:
            self._connections.append(Connection(self, subscription))
        self.changed()

    def forget(self, connection: Connection) -> None:
        """Forgets a connection that takes nothing any more."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._ended.add(connection.task)
            connection.task.add_done_callback(self._ended.discard)

    def changed(self) -> None:
        """The state of a connection may have changed."""
        state: State = max((connection.state for connection in self._connections), key=STATES.index, default="idle")
        if state != self._state:
            self._state = state
            for listener in list(self._listeners):
                attempt(listener, state)

    def _open(self, subscription: Subscription[Item]) -> Subscription[Item]:
        if self._is_closed:
            raise RowcastError("closed", "the client was closed")
        self.place(subscription)
        return subscription


def _place(row: Mapping[str, Any] | None) -> str | None:
    """What of a row is a place: objects and lists are in no order."""
    return None if row is None else json.dumps({column: value for column, value in row.items() if not isinstance(value, dict | list)})


def _list(text: str | Sequence[str] | None) -> list[str] | None:
    return None if text is None else [text] if isinstance(text, str) else list(text)


def _base_of(url: str) -> str:
    """Where the paths of sockets begin: `wss://live.example.com`."""
    found = re.fullmatch(r"(?:http|ws)(s?)://([^?#\s]+)", url)
    if not found:
        raise ValueError(f"{url} is no address of a server: give https://example.com, without a query")
    return f"ws{found[1]}://{found[2].rstrip('/')}"
