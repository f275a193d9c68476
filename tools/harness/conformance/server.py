"""A server whose every word the case says. Owns the port, and who is connected.

It answers by itself what no case is about: `ping`, `cuts`, `unsubscribe`, WebSocket pings.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable
from typing import TypeVar

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from .failure import Failed
from .socket import Socket, Stream

Found = TypeVar("Found")

#: Seconds in which a client has to do what it does at once, on a busy machine.
AT_ONCE = 10.0
#: Seconds in which a client is back after a lost connection: its first pauses are random, and a few seconds long.
BACK = 20.0


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
        """Each task that waits looks again."""
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
        socket = Socket(connection, len(self.sockets) + 1, self.note, self.mistakes)
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
