"""A server whose every word the case says. Owns sockets, and which subscriptions each of them has; checks that commands are well-formed.

It answers by itself what no case is about: `ping`, `cuts`, `unsubscribe`, WebSocket pings.
"""

from __future__ import annotations

import asyncio
import http
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from .failure import Failed
from .stream import Message, Stream, ref_of

Found = TypeVar("Found")

#: Seconds in which a client has to do what it does at once, on a busy machine.
AT_ONCE = 10.0
#: Seconds in which a client is back after a lost connection: its first pauses are random, and a few seconds long.
BACK = 20.0

VIEW = re.compile(r"[A-Za-z0-9_-]{1,32}")
TYPES: dict[str, tuple[type, ...]] = {
    "channel": (str,),
    "view": (str,),
    "since": (str,),
    "snapshot": (bool,),
    "partial": (bool,),
    "old": (bool,),
    "filter": (str, list),
    "columns": (list,),
    "token": (str,),
}


class Server:
    """One port, and the sockets that clients have opened at it."""

    def __init__(self, note: Callable[[str], None], check: Callable[[], None]) -> None:
        self.note = note
        #: raises where there is nothing to wait for
        self._check = check
        self.sockets: list[Socket] = []
        #: what is wrong with what clients sent
        self.mistakes: list[str] = []
        #: attempts to connect, refused ones too
        self.attempts = 0
        #: where it is set, every handshake is answered with it
        self.status: http.HTTPStatus | None = None
        #: where it is set, every socket is closed with it at once
        self.code: int | None = None
        self.port = 0
        self._changed = asyncio.Condition()
        self._listener: Listener | None = None

    async def listen(self) -> None:
        self._listener = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            select_subprotocol=self._select,
            process_request=self._request,
            ping_interval=None,
            max_size=None,
            compression=None,
        )
        self.port = next(iter(self._listener.sockets)).getsockname()[1]

    async def vanish(self) -> None:
        """As a server that was killed: the port is closed and every socket ends without a close frame."""
        for socket in self.sockets:
            socket.drop()
        if self._listener:
            self._listener.close(close_connections=False)
            await self._listener.wait_closed()
            self._listener = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def socket(self, number: int, within: float = BACK) -> Socket:
        """The socket that a client opened as the `number`th, from 1 on."""
        return await self.until(
            lambda: self.sockets[number - 1] if len(self.sockets) >= number else None,
            f"the client opened {number - 1} sockets, and no other one",
            within,
        )

    async def stream(self, channel: str, within: float = BACK) -> Stream:
        """The next subscription of a channel, on whichever socket it comes."""

        def find() -> Stream | None:
            for socket in self.sockets:
                for stream in socket.unclaimed:
                    if stream.channel == channel:
                        socket.unclaimed.remove(stream)
                        return stream
            return None

        return await self.until(find, f"the client did not subscribe to {channel}", within)

    async def until(self, find: Callable[[], Found | None], otherwise: str, within: float = AT_ONCE) -> Found:
        """What `find` finds, once it is there."""
        try:
            async with asyncio.timeout(within), self._changed:
                while (found := find()) is None:
                    self._check()
                    await self._changed.wait()
                return found
        except TimeoutError:
            raise Failed(f"{otherwise}, within {within:g} s") from None

    async def changed(self) -> None:
        """Whoever waits looks again."""
        async with self._changed:
            self._changed.notify_all()

    def _select(self, _: ServerConnection, offered: object) -> Subprotocol | None:
        return Subprotocol("rowcast.v1") if isinstance(offered, list) and "rowcast.v1" in offered else None

    async def _request(self, connection: ServerConnection, _: Request) -> Response | None:
        self.attempts += 1
        await self.changed()
        if self.status:
            self.note(f"server: HTTP {self.status}")
            return connection.respond(self.status, "not now\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        socket = Socket(self, connection, len(self.sockets) + 1)
        self.sockets.append(socket)
        if self.code:
            await socket.close(self.code)
            return
        await self.changed()
        try:
            async for text in connection:
                socket.received(text)
                await self.changed()
        except ConnectionClosed:
            pass
        finally:
            socket.is_closed = True
            self.note(f"socket {socket.number}: closed")
            await self.changed()


class Socket:
    """The server's end of a socket."""

    def __init__(self, server: Server, connection: ServerConnection, number: int) -> None:
        self.server = server
        self.connection = connection
        self.number = number
        self.is_closed = False
        request = connection.request
        assert request is not None
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query, keep_blank_values=True)
        self.note(f"opened {request.path}")
        #: whether it is told of cuts
        self.cuts = query.get("cuts") in (["true"], ["1"], [""])
        self.token = self._token(query)
        #: subscriptions that no case has asked for yet
        self.unclaimed: list[Stream] = []
        #: `auth` commands
        self.tokens: list[Message] = []
        self._joined: dict[tuple[str, str | None], Stream] = {}
        channel = unquote(path.rpartition("/ws")[2].removeprefix("/"))
        if channel:  # as if it had been asked for with a command
            flags: Message = {name: True for name in ("snapshot", "partial", "old") if name in query}
            texts = {"since": query["since"][0]} if "since" in query else {}
            columns = {"columns": query["columns"][0].split(",")} if "columns" in query else {}
            filters = {"filter": query["filter"]} if "filter" in query else {}
            self._subscribe(
                {"type": "subscribe", "channel": channel, **flags, **texts, **columns, **filters}, by_path=True
            )

    def note(self, text: str) -> None:
        self.server.note(f"socket {self.number}: {text}")

    def received(self, text: str | bytes) -> None:
        self.note(f"client: {text[:200]!r}"[:220])
        try:
            command = json.loads(text)
            kind = command["type"]
        except (ValueError, TypeError, KeyError):
            self.server.mistakes.append(f"{text[:80]!r} is no command")
            return
        for name, types in TYPES.items():
            if name in command and not isinstance(command[name], types):
                self.server.mistakes.append(f"{name} of a command is {command[name]!r}")
                return
        if kind == "subscribe":
            self._subscribe(command)
        elif kind == "unsubscribe":
            self._unsubscribe(command)
        elif kind == "auth":
            self.tokens.append(command)
        elif kind == "cuts":
            self.cuts = True
        elif kind == "ping":
            self.send({"type": "pong", **ref_of(command)})
        else:
            self.server.mistakes.append(f"there is no command {kind}")

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.raw(json.dumps(message))

    def raw(self, text: str) -> None:
        """Sends a frame of text, in the order of calls."""
        if self.is_closed:
            return
        self.note(f"server: {text[:200]}")
        self.connection.protocol.send_text(text.encode())
        self.connection.send_data()

    def cut(self, **fields: Any) -> None:
        """The end of a cut: for the socket where the client has asked for that, else for each channel that has changes of it."""
        if self.cuts:
            self.send({"type": "cut", **fields})
        else:
            for stream in self._joined.values():
                if stream.in_cut:
                    stream.cut(stream.in_cut)

    async def close(self, code: int, reason: str = "because") -> None:
        """Closes it with a code. 1006 is what a client sees of a connection that ends without a close frame."""
        if code == 1006:
            self.drop()
        else:
            self.note(f"server: closes with {code}")
            await self.connection.close(code, reason)

    def drop(self) -> None:
        self.note("server: drops the connection")
        self.connection.transport.abort()

    def silence(self) -> None:
        """From now on neither says anything nor hears: the network has gone, and nobody said so."""
        self.note("server: is silent from now on")
        self.connection.transport.pause_reading()

    def _subscribe(self, command: Message, by_path: bool = False) -> None:
        channel, view = command.get("channel"), command.get("view")
        if not isinstance(channel, str) or (view is not None and not VIEW.fullmatch(view)):
            self.server.mistakes.append(f"subscribe with channel {channel!r} and view {view!r}")
            return
        if view is None and not by_path and any(command.get(name) for name in ("filter", "columns", "old")):
            view = f"server-{len(self._joined)}"
        if (channel, view) in self._joined:
            self.send(
                {
                    "type": "error",
                    "code": "already_subscribed",
                    "message": f"already subscribed to {channel}",
                    **ref_of(command),
                }
            )
            return
        stream = Stream(self, channel, view, command, by_path)
        self._joined[channel, view] = stream
        self.unclaimed.append(stream)

    def _unsubscribe(self, command: Message) -> None:
        channel, view = command.get("channel"), command.get("view")
        left = [name for name in self._joined if name[0] == channel and view in (None, name[1] or "")]
        for name in left:
            stream = self._joined.pop(name)
            stream.is_left = True
            self.send({**stream.message("unsubscribed"), **ref_of(command)})
        if not left:
            self.send(
                {
                    "type": "error",
                    "code": "not_subscribed",
                    "message": f"not subscribed to {channel}",
                    **ref_of(command),
                }
            )

    def forget(self, stream: Stream) -> None:
        """It was refused, or has ended."""
        self._joined = {name: joined for name, joined in self._joined.items() if joined is not stream}

    def _token(self, query: dict[str, list[str]]) -> str | None:
        request = self.connection.request
        assert request is not None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token
        for offered in ",".join(request.headers.get_all("Sec-WebSocket-Protocol")).split(","):
            if offered.strip().startswith("bearer."):
                return offered.strip().removeprefix("bearer.")
        return query.get("token", [None])[0]
