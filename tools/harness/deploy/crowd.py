"""Thousands of clients on one thread, by epoll, with WebSockets and event streams. To come back takes a client here 0.3 ms of processor time, its proxy 0.2,
its node 0.15 (a debug build 0.8). A thread each took more than 5 ms, and what was measured was the time of the clients.

A client comes back with its cursor within two seconds, as the project's clients do, and notes whatever a user would
notice.
"""

import errno
import heapq
import json
import os
import selectors
import socket
import threading
import time
import urllib.parse
from typing import Any

from harness.foreign.eventstream import EventStream, request
from harness.websocket import ProtocolError, Refused, WebSocket, accept, opening

USERS = 10  # one client of so many is a user's
STREAMS = 4  # one of so many has an event stream, the others a WebSocket
BACK_OFF = 2  # seconds; a client waits for a part of them, by chance
PATIENCE = 0.2  # seconds at most until the thread looks whether it has to end


class Client:
    """One socket after the other, or one event stream, of one channel or one user."""

    def __init__(self, port: int, is_user: bool, is_stream: bool) -> None:
        self.port, self.is_stream = port, is_stream
        self.path = f"/{'sse' if is_stream else 'ws'}/{'user/7' if is_user else 'pets'}"
        self.cursor: str | None = None
        self.heard: list[int] = []
        self.mistakes: list[str] = []
        self.refused: list[str] = []  # attempts that did not open a socket
        self.last, self.has_joined = 0, False
        # the most seconds: without a socket; and from the first attempt until there was one, refused meanwhile or not
        self.silent, self.tried = 0.0, 0.0
        self.sock: socket.socket | None = None
        self._socket: WebSocket | EventStream | None = None
        self._key, self._request, self._head = b"", b"", b""
        self._left: float | None = None
        self._first: float | None = None

    def connect(self) -> None:
        """Begins an attempt, which goes on where its socket is ready."""
        since = f"?since={urllib.parse.quote(self.cursor)}" if self.cursor else ""
        self._first = self._first or time.monotonic()
        if self.is_stream:
            self._request = request("127.0.0.1", self.port, self.path + since)
        else:
            self._key, self._request = opening("127.0.0.1", self.port, self.path + since)
        self._head, self._socket = b"", None
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if (code := self.sock.connect_ex(("127.0.0.1", self.port))) not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def ask(self) -> None:
        """The connection is there, or refused."""
        if code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
        self.sock.sendall(self._request)

    def read(self) -> bool:
        """Takes what has come; whether the socket is open still."""
        data = self.sock.recv(1 << 16)
        if self._socket is None:
            if not data:
                raise ProtocolError(f"{self.path}: closed during the handshake: {self._head!r}")
            self._head += data
            head, ended, data = self._head.partition(b"\r\n\r\n")
            if not ended:
                return True
            if self.is_stream:
                self._socket = EventStream.opened(self.sock, self.path, head)
            else:
                accept(self.path, self._key, head, lambda: data)
                self._socket = WebSocket.opened(self.sock, self.path)
            if not data:  # nothing behind the head yet; to `feed` it would be the end
                return True
        for text in self._socket.feed(data):
            self._hear(json.loads(text))
        if self._socket.closed is None:
            return True
        if self._socket.closed[0] != 1001:
            self.mistakes.append(f"{self.path}: closed with {self._socket.closed}")
        return False

    def is_open(self) -> bool:
        """Whether the handshake was answered."""
        return self._socket is not None

    def leave(self) -> None:
        """The socket is gone, or was none."""
        self.sock.close()
        if self._left is None:
            self._left = time.monotonic()

    def _hear(self, message: dict[str, Any]) -> None:
        self.cursor = message.get("cursor") or self.cursor
        if message["type"] in ("realtime_update", "notification"):
            self.heard.append(message["data"]["pet_id"])
            self.last = self.heard[-1]
        elif message["type"] == "subscribed":
            self._join()
        elif message["type"] in ("gap", "error"):
            self.mistakes.append(f"{self.path}: {message}")

    def _join(self) -> None:
        now, self.has_joined = time.monotonic(), True
        self.tried = max(self.tried, now - self._first)
        if self._left is not None:
            self.silent = max(self.silent, now - self._left)
        self._first = self._left = None


class Crowd(threading.Thread):
    """All of them, through one port."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self.clients = [Client(port, place % USERS == 0, place % STREAMS == 2) for place in range(number)]
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int]] = []  # when a client connects again, and its place in `clients`
        self._gone = threading.Event()

    def run(self) -> None:
        for place in range(len(self.clients)):
            self._back_off(place)
        while not self._gone.is_set():
            while self._due and self._due[0][0] <= time.monotonic():
                self._connect(heapq.heappop(self._due)[1])
            wait = self._due[0][0] - time.monotonic() if self._due else PATIENCE
            for key, ready in self._selector.select(min(max(wait, 0), PATIENCE)):
                self._turn(key.data, ready)
        for client in self.clients:
            client.leave()

    def longest(self) -> tuple[float, float]:
        """Seconds of the client that had to try for the longest time, and of the one that was without a socket."""
        return max(client.tried for client in self.clients), max(client.silent for client in self.clients)

    def end(self) -> None:
        """All leave."""
        self._gone.set()
        self.join()

    def _back_off(self, place: int) -> None:
        wait = int.from_bytes(os.urandom(2), "big") / 65536 * BACK_OFF
        heapq.heappush(self._due, (time.monotonic() + wait, place))

    def _connect(self, place: int) -> None:
        client = self.clients[place]
        try:
            client.connect()
        except OSError as error:
            self._lose(place, f"{client.path}: {error}")
            return
        self._selector.register(client.sock, selectors.EVENT_WRITE, place)

    def _turn(self, place: int, ready: int) -> None:
        client = self.clients[place]
        try:
            if ready & selectors.EVENT_WRITE:
                client.ask()
                self._selector.modify(client.sock, selectors.EVENT_READ, place)
            elif not client.read():
                self._lose(place)
        except Refused as refused:
            self._lose(place, str(refused).splitlines()[0].split("<")[0])
        except (OSError, ProtocolError) as error:
            self._lose(place, f"{client.path}: {error}")

    def _lose(self, place: int, why: str = "") -> None:
        client = self.clients[place]
        if why:
            (client.mistakes if client.is_open() else client.refused).append(why)
        if client.sock.fileno() in self._selector.get_map():
            self._selector.unregister(client.sock)
        client.leave()
        self._back_off(place)
