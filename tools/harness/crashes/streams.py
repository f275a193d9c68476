"""What subscribers hear: each message in order, with the place in the stream that its cursor names.

Owns the sockets, each read by a thread of its own; judges nothing. A change is (id, tx, timestamp, k, v): ids and
transaction ids can both be given out again after a crash, all three together cannot.
"""

import contextlib
import json
import socket
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any

from harness.websocket import ProtocolError, WebSocket


@dataclass(frozen=True)
class Place:
    """A cursor, and what its subscriber had been told when it came."""

    cursor: str
    message: str  # type of the message that it came with
    at: float  # when
    base: int  # id of the newest change before the subscriber came
    changes: list  # of its stream, also later ones
    count: int  # of them, so many up to here

    def delivered(self) -> Any:
        return self.changes[: self.count]


class Stream(threading.Thread):
    """One socket, from its first message or from a place on."""

    def __init__(self, node: Any, base: Any, place: Any = None) -> None:
        super().__init__(daemon=True)
        self.node, self.place, self.base = node, place, place.base if place else base
        self.changes = place.delivered() if place else []  # up to the first gap
        self.places: list[Any] = []  # the same; which gaps there were
        self.gaps: list[Any] = []
        self._after_gap: list[Any] = []  # a state is loaded anew then, of which nothing is known here
        self.joined = threading.Event()
        self.told: Any = None  # the message `subscribed`
        self.came_before = 0  # changes before it
        self.ended: Any = None  # why the socket is closed
        self._socket: WebSocket | None = None
        self._left = False
        self.start()

    def run(self) -> None:
        query = f"?{urllib.parse.urlencode({'since': self.place.cursor})}" if self.place else ""
        try:
            self._socket = opened = WebSocket(self.node.host, self.node.port, f"/ws/counters{query}", timeout=20)
            opened.sock.settimeout(None)
            while not opened.closed and not self._left:
                for text in opened.feed(opened.sock.recv(1 << 18)):
                    self._hear(json.loads(text))
            self.ended = f"closed: {opened.closed}"
        except (OSError, ProtocolError, ValueError, KeyError) as error:
            self.ended = f"{type(error).__name__}: {error}"
        finally:
            if self._socket:
                self._socket.sock.close()

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "realtime_update":
            row = message["data"]
            changes = self._after_gap if self.gaps else self.changes
            changes.append((message["id"], message["tx"], message["timestamp"], row["k"], row["v"]))
            self.came_before += self.told is None
        elif kind == "gap":
            self.gaps.append(message["reason"])
        elif kind == "subscribed":
            self.told = message
        if "cursor" in message and not self.gaps:
            self.places.append(
                Place(message["cursor"], kind, time.monotonic(), self.base, self.changes, len(self.changes))
            )
        if kind == "subscribed":
            self.joined.set()

    def has(self, number: int) -> bool:
        """Whether the change with this id has come."""
        return any(change[0] == number for change in reversed(self._after_gap if self.gaps else self.changes))

    def is_open(self) -> bool:
        return self.ended is None

    def last_place(self) -> Any:
        """Where it would go on from."""
        return self.places[-1] if self.places else self.place

    def leave(self) -> None:
        """Hangs up."""
        self._left = True
        if self._socket:
            with contextlib.suppress(OSError):
                self._socket.sock.shutdown(socket.SHUT_RDWR)
        self.join(5)


def in_time(streams: Any) -> list[Any]:
    """All places that streams have named, the newest last."""
    return sorted((place for stream in streams for place in stream.places), key=lambda place: place.at)
