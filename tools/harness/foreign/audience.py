"""The sockets of a round: who opens which one when, and whose a message is.

Owns connecting and reading; what messages mean is `subscriber`'s. One thread, which pumps between the writers' steps.
"""

from __future__ import annotations

import json
import selectors
import time
import urllib.parse
from collections.abc import Callable

from harness import websocket

from .charset import as_told
from .eventstream import EventStream
from .plan import Follow
from .subscriber import Subscriber, parse, row_of

SECRET = b"S3CR3T"
MISSING = ("404", "4404")


class Audience:
    """All subscribers of a round."""

    def __init__(
        self,
        host: str,
        port: int,
        follows: list[Follow],
        key_of: Callable[[str], list[str]],
        hidden_of: Callable[[str], set[str]],
    ) -> None:
        self._host, self._port, self._key_of, self._hidden_of = host, port, key_of, hidden_of
        self._selector = selectors.DefaultSelector()
        self.secrets: list[str] = []
        self.users: list[tuple[str, str]] = []  # (user of the socket, message) that do not fit
        self.lines: dict[int, Line] = {}
        for follow in follows:
            self.lines.setdefault(follow.socket, Line(follow.socket)).subscribers.append(Subscriber(follow))
        self.notified: dict[str, list[str]] = {}  # user → ids of notifications
        self.messages = 0

    def subscribers(self) -> list[Subscriber]:
        """Those of channels."""
        return [each for line in self.lines.values() for each in line.subscribers if not each.follow.user]

    def turn(self, number: int) -> None:
        """Opens and closes the sockets that come and go before this turn."""
        for line in self.lines.values():
            follow = line.subscribers[0].follow
            if follow.begins == number or line.is_lost or any(back == number for _, back in follow.drops):
                if (
                    line.socket is None
                    and follow.begins <= number
                    and not any(leaves < number < back for leaves, back in follow.drops)
                ):
                    self.connect(line)
            elif any(leaves == number for leaves, _ in follow.drops):
                self.hang_up(line)

    def reload(self, channel: str, everybody: bool) -> None:
        """The subscribers of this channel begin anew: all, or those that are there."""
        for line in self.lines.values():
            if (everybody or line.socket is not None) and any(
                each.follow.channel == channel for each in line.subscribers
            ):
                for each in line.subscribers:
                    if each.follow.channel == channel and (line.socket is not None or line.is_lost):
                        each.place, each.gone = None, ""
                        each.is_loaded = False
                    elif each.follow.channel == channel and not each.gone:
                        each.place = None
                if line.socket is not None or line.is_lost:
                    self.hang_up(line)
                    self.connect(line)

    def move(self, port: int) -> None:
        """The server is another one: each socket that was open is opened again."""
        self._port = port
        for line in self.lines.values():
            if line.socket is not None or line.is_lost:
                self.hang_up(line)
                self.connect(line)

    def connect(self, line: Line) -> None:
        """Opens the socket, each channel from its place."""
        first = line.subscribers[0].follow
        line.is_lost, line.hidden = (
            False,
            {each.follow.channel: self._hidden_of(each.follow.channel) for each in line.subscribers},
        )
        asked = [
            (each, each.connect(self._key_of(each.follow.channel), False))
            for each in line.subscribers
            if not each.follow.user
        ]
        if first.user:
            path = f"/ws/user/{first.user}"
        elif len(asked) == 1:
            each, since = asked[0]
            words = [
                ("snapshot", "true"),
                *([("since", since)] if since else []),
                *(("filter", text) for text in filters(first)),
            ]
            words += [("columns", columns_text(first))] if first.columns else []
            words += [("old", "true")] if first.old else []
            kind, channel = "sse" if first.is_stream else "ws", urllib.parse.quote(first.channel, safe="")
            path = f"/{kind}/{channel}?{urllib.parse.urlencode(words, quote_via=urllib.parse.quote)}"
        else:
            path = "/ws"
        try:
            line.socket = (EventStream if first.is_stream else websocket.WebSocket)(self._host, self._port, path)
        except websocket.Refused as refused:
            for each in line.subscribers:
                each.gone = f"refused {refused.status}: {refused}"
            line.is_lost = refused.status in MISSING
            return
        except (OSError, websocket.ProtocolError) as error:
            line.is_lost, line.troubles = True, [*line.troubles[-3:], str(error)]
            return
        self._selector.register(line.socket.sock, selectors.EVENT_READ, line)
        for each, since in asked if path == "/ws" else []:
            each.gone = ""
            follow = each.follow
            assert isinstance(line.socket, websocket.WebSocket)
            line.socket.send(
                json.dumps(
                    {
                        "type": "subscribe",
                        "channel": follow.channel,
                        "snapshot": True,
                        **({"since": since} if since else {}),
                        "filter": filters(follow),
                        **({"columns": list(follow.columns)} if follow.columns else {}),
                        "old": follow.old,
                    }
                )
            )
        for each in line.subscribers:
            each.gone = ""

    def hang_up(self, line: Line) -> None:
        """Ends the socket without a word."""
        if line.socket is not None:
            self._selector.unregister(line.socket.sock)
            line.socket.sock.close()
            line.socket = None

    def pump(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Reads what comes, for so long or until this holds; whether it does."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            ready = self._selector.select(max(0.0, min(left, 0.05)))
            for key, _ in ready:
                self._read(key.data)
            if until is not None and until():
                return True
            if left <= 0 and (not ready or until is not None):
                return until is None
            if until is not None:
                for line in self.lines.values():
                    if line.is_lost and line.socket is None and time.monotonic() > line.due:
                        line.due = time.monotonic() + 0.2
                        self.connect(line)

    def _read(self, line: Line) -> None:
        socket = line.socket
        assert socket is not None
        try:
            data = socket.sock.recv(1 << 18)
        except OSError:
            data = b""
        for frame in socket.feed(data):
            self._take(line, frame)
        if socket.closed is not None or not data:
            code, reason = socket.closed or (1006, "")
            line.troubles = [*line.troubles[-3:], f"closed with {code} {reason}"]
            self.hang_up(line)
            if code in (4400, 4401, 4403):
                for each in line.subscribers:
                    each.gone = f"closed {code} {reason}"
            else:
                line.is_lost = True

    def _take(self, line: Line, frame: bytes) -> None:
        self.messages += 1
        if SECRET in frame:
            self.secrets.append(frame.decode("utf-8", "replace")[:500])
        text = frame.decode("utf-8")
        message = row_of(parse(as_told(text)))
        kind = message["type"]
        if kind == "notification":
            user = line.subscribers[0].follow.user
            if message.get("user_id") != user:
                self.users.append((user, text[:300]))
            self.notified.setdefault(user, []).append(str(message["id"]))
            return
        channel = message.get("entity_type", message.get("channel"))
        for each in line.subscribers:
            if each.follow.channel == channel or channel is None and len(line.subscribers) == 1:
                if line.hidden.get(each.follow.channel) and kind in ("realtime_update", "snapshot"):
                    self._look_for_hidden(line, each, message, text)
                each.take(message, text)
                if each.wants_rows:
                    each.place = None
                    self.hang_up(line)
                    line.is_lost = True
                    return

    def _look_for_hidden(self, line: Line, each: Subscriber, message: dict, text: str) -> None:
        hidden = line.hidden[each.follow.channel]
        rows = (
            message["rows"]
            if message["type"] == "snapshot"
            else [message["data"]]
            if isinstance(message["data"], tuple) and message["action"] not in ("spoken", "sentinel")
            else []
        )
        for row in rows:
            found = hidden & {name for name, value in row if value is not None}
            if found:
                self.secrets.append(f"column {sorted(found)} of {each.follow.channel}: {text[:400]}")

    def close(self) -> None:
        """Hangs up everywhere."""
        for line in self.lines.values():
            self.hang_up(line)
        self._selector.close()


class Line:
    """A socket through all of its connections, and the subscribers on it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.subscribers: list[Subscriber] = []
        self.socket: websocket.WebSocket | EventStream | None = None
        self.is_lost = False  # it is to be opened again as soon as that may work
        self.due = 0.0
        self.hidden: dict[str, set[str]] = {}
        self.troubles: list[str] = []


def filters(follow: Follow) -> list[str]:
    """The conditions as the server wants them."""
    return [
        f"{name}={operator}.{value}" if operator else f"{name}={value}"
        for name, operator, value, _ in follow.conditions
    ]


def columns_text(follow: Follow) -> str:
    """The columns, with commas between them."""
    return ",".join(follow.columns)
