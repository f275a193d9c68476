"""The program under test: README.md beside this file says which lines it reads and prints."""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from typing import Any

from .failure import Failed, Unsupported
from .server import AT_ONCE

Event = dict[str, Any]
Rows = list[dict[str, Any]]


class Program:
    """Starts it, tells it what to do, and keeps what it prints until a case asks for that."""

    def __init__(self, process: Process, note: Callable[[str], None], changed: Callable[[], Awaitable[None]]) -> None:
        self._process = process
        self._note = note
        self._changed = changed
        self._events: list[Event] = []
        self._printed = asyncio.Condition()
        self._has_ended = False
        self._errors = b""
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._read_errors())]

    @classmethod
    async def start(
        cls, command: list[str], url: str, note: Callable[[str], None], changed: Callable[[], Awaitable[None]]
    ) -> Program:
        """`changed` is called when it has printed something, or has ended."""
        process = await asyncio.create_subprocess_exec(
            *command, url, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=1 << 26
        )
        return cls(process, note, changed)

    def do(self, what: str, **fields: Any) -> None:
        text = json.dumps({"do": what, **{name: value for name, value in fields.items() if value is not None}})
        self._note(f"program is told {text}")
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    def connect(self, **fields: Any) -> None:
        self.do("connect", **fields)

    def subscribe(self, name: str, channel: str, **fields: Any) -> None:
        self.do("subscribe", name=name, channel=channel, **fields)

    def collection(self, name: str, channel: str, key: str | list[str] = "pet_id", **fields: Any) -> None:
        self.do("collection", name=name, channel=channel, key=key, **fields)

    async def next(self, kind: str, name: str | None = None, within: float = AT_ONCE, **fields: Any) -> Event:
        """The next event of a kind, of the subscription `name`. Fails where it has other values than `fields`."""
        try:
            async with asyncio.timeout(within), self._printed:
                while (found := self._find(kind, name)) is None:
                    self.check()
                    await self._printed.wait()
        except TimeoutError:
            raise Failed(
                f"the program printed no event {kind}{f' of {name}' if name else ''}, within {within:g} s"
            ) from None
        for field, value in fields.items():
            if found.get(field) != value:
                raise Failed(f"{kind} of {name} has {field} {json.dumps(found.get(field))}, not {json.dumps(value)}")
        return found

    async def change(self, name: str, *numbers: int) -> None:
        """The next changes of a subscription have these ids."""
        for number in numbers:
            event = await self.next("change", name)
            if (got := event["change"].get("id")) != number:
                raise Failed(f"{name} was told change {got}; the next one is {number}")

    async def shows(self, name: str, *rows: dict[str, Any]) -> Event:
        """The next change event of a collection shows these rows."""
        event = await self.next("rows", name)
        if _sorted(event["rows"][name]) != _sorted(list(rows)):
            raise Failed(f"{name} shows {json.dumps(event['rows'][name])}, not {json.dumps(rows)}")
        return event

    def check(self) -> None:
        """Raises where it has ended, or does not support what it was told."""
        for event in self._events:
            if event.get("is") == "unsupported":
                raise Unsupported(str(event.get("what", "")))
        if self._has_ended:
            raise Failed(f"the program has ended: {self._errors.decode(errors='replace')[-400:]}")

    def never(self, kind: str, name: str | None = None, why: str = "") -> None:
        """No such event has been printed that was not asked for."""
        self.check()
        if event := self._find(kind, name):
            raise Failed(f"{why or 'too much'}: {json.dumps(event)}")

    async def end(self) -> None:
        """Ends it, by its own means if it has any."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 3)
        except TimeoutError:
            # it may have ended in the meantime
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        for task in self._tasks:
            task.cancel()

    def _find(self, kind: str, name: str | None) -> Event | None:
        for event in self._events:
            if event.get("is") == kind and name in (None, event.get("name")):
                self._events.remove(event)
                return event
        return None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._note(f"program prints {line.decode(errors='replace').strip()[:200]}")
            try:
                event = json.loads(line)
            except ValueError:
                event = {"is": "noise"}
            self._events.append(event)
            await self._look_again()
        self._has_ended = True
        await self._look_again()

    async def _look_again(self) -> None:
        async with self._printed:
            self._printed.notify_all()
        await self._changed()

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._errors = (self._errors + line)[-2000:]
            self._note(f"program warns {line.decode(errors='replace').strip()[:200]}")


def _sorted(rows: Rows) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)
