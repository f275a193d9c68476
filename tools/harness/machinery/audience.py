"""A subscriber that follows tables over the wire with the Python client, and compares what it shows with the tables."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from rowcast import Client, Collection, RowcastError, connect

Row = dict[str, Any]
WITHIN = 90.0  # seconds until what was written is shown; DDL is noticed each ten, and a client waits up to thirty to reconnect


class Unequal(Exception):
    """What is shown is not what the table has."""


class Audience:
    """All collections of one client, whose loop runs in a thread of its own."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client: Client = self._do(self._connect(url))
        self._collections: dict[str, Collection] = {}
        self.errors: list[str] = []

    async def _connect(self, url: str) -> Client:
        return connect(url)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WITHIN)

    def follow(self, channel: str, key: str | list[str]) -> None:
        """Begins to show a channel's rows, anew where it has shown them. A key of several columns is a list."""

        async def begin() -> None:
            if channel in self._collections:
                self._collections.pop(channel).close()
            name = key if isinstance(key, str) else tuple(key)
            made = self._client.collection(channel, key=name)
            made.on_error(self._note)
            self._collections[channel] = made
            await made.ready

        self._do(begin())

    def follow_all(self, keys: dict[str, list[str]]) -> None:
        """Begins to show many at once."""

        async def begin() -> None:
            for channel, key in keys.items():
                made = self._client.collection(channel, key=key[0] if len(key) == 1 else tuple(key))
                made.on_error(self._note)
                self._collections[channel] = made
            await asyncio.gather(*(each.ready for each in self._collections.values()))

        self._do(begin())

    def _note(self, error: RowcastError) -> None:
        self.errors.append(f"{error.code}: {error.message}")

    def shown(self, channel: str) -> list[Row]:
        """The rows that it shows now."""

        async def read() -> list[Row]:
            return [dict(row) for row in self._collections[channel].values()]

        rows: list[Row] = self._do(read())
        return rows

    def come_to(self, channel: str, truth: Callable[[], list[Row]]) -> int:
        """Waits until a channel's rows are these; how many."""
        deadline = time.monotonic() + WITHIN
        while True:
            wanted, shown = truth(), self.shown(channel)
            if sorted(map(as_text, wanted)) == sorted(map(as_text, shown)):
                return len(wanted)
            if time.monotonic() > deadline:
                missing = [row for row in wanted if row not in shown][:2]
                extra = [row for row in shown if row not in wanted][:2]
                raise Unequal(f"{channel}: not shown {missing}, not in the table {extra}; errors {self.errors[-3:]}")
            time.sleep(0.05)

    def close(self) -> None:
        """Hangs up, and ends the loop."""
        if not self._thread.is_alive():
            return
        self._do(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


def as_text(row: Row) -> str:
    """A row as text, the same for equal rows: 1 and 1.0 are equal, and a client keeps the object that it had."""
    return json.dumps(
        json.loads(
            json.dumps(row), parse_float=lambda text: int(float(text)) if float(text).is_integer() else float(text)
        ),
        sort_keys=True,
    )
