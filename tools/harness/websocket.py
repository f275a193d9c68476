"""A WebSocket client as small as a benchmark needs it (RFC 6455), and many of them on one thread."""

import base64
import hashlib
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA


class ProtocolError(Exception):
    """The server did not speak WebSocket as the RFC has it."""


class Refused(ProtocolError):
    """The server answered the upgrade with another HTTP status than 101; `status` is its text."""

    def __init__(self, text: str, status: str) -> None:
        super().__init__(text)
        self.status = status


def opening(host: str, port: int, path: str) -> tuple[bytes, bytes]:
    """A key, and the request that opens a WebSocket with it."""
    key = base64.b64encode(os.urandom(16))
    return key, (
        b"GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (path.encode(), host.encode(), port, key)
    )


def accept(path: str, key: bytes, head: bytes, body: Callable[[], bytes]) -> None:
    """Raises where this answer's head does not open the socket; `body` is asked for what follows it."""
    status, *lines = head.rstrip().split(b"\r\n")
    code = status.split(b" ")[1:2]
    if code != [b"101"]:
        said = body().decode("utf-8", "replace").strip()
        raise Refused(f"{path}: refused: {status.decode()}: {said}", b"".join(code).decode())
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if headers.get(b"sec-websocket-accept") != base64.b64encode(hashlib.sha1(key + MAGIC).digest()):
        raise ProtocolError(f"{path}: the handshake's answer belongs to another key")


class WebSocket:
    """One connection. `feed` turns bytes into messages; the owner of the socket does the waiting."""

    def __init__(self, host: str, port: int, path: str, timeout: float = 10) -> None:
        self._begin(socket.create_connection((host, port), timeout), path)
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._handshake(host, port)
        except BaseException:
            self.sock.close()
            raise

    def _handshake(self, host: str, port: int) -> None:
        key, request = opening(host, port, self.path)
        self.sock.sendall(request)
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows is the first frame
            byte = self.sock.recv(1)
            if not byte:
                raise ProtocolError(f"{self.path}: closed during the handshake: {head!r}")
            head += byte
        accept(self.path, key, head, lambda: self.sock.recv(4096))

    @classmethod
    def opened(cls, sock: socket.socket, path: str) -> "WebSocket":
        """One whose handshake is done, by `opening` and `accept`."""
        made = cls.__new__(cls)
        made._begin(sock, path)
        return made

    def _begin(self, sock: socket.socket, path: str) -> None:
        self.sock, self.path = sock, path
        self.closed: tuple[int, str] | None = None  # (code, reason) once the server has ended it
        self._rest = b""
        self._fragments: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes as they came (b"" means the end) and returns the texts of the messages that are complete."""
        if not data and self.closed is None:
            self.closed = (1006, "the connection ended without a close frame")
        rest = self._rest + data if self._rest else data
        messages: list[bytes] = []
        at, size = 0, len(rest)
        while size - at >= 2:
            first, length, start = rest[at], rest[at + 1], at + 2
            if length & 0x80:
                raise ProtocolError(f"{self.path}: the server masked a frame")
            if length == 126:
                length, start = int.from_bytes(rest[start : start + 2], "big"), start + 2
            elif length == 127:
                length, start = int.from_bytes(rest[start : start + 8], "big"), start + 8
            if size < start + length:  # a length that is cut off is read wrong, but then start is beyond size too
                break
            payload, at = rest[start : start + length], start + length
            if first == 0x80 | TEXT:
                messages.append(payload)
            else:
                self._other(first, payload, messages)
        self._rest = rest[at:]
        return messages

    def _other(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        final, opcode = first & 0x80, first & 0x7F
        if opcode in (TEXT, CONTINUATION):
            self._fragments.append(payload)
            if final:
                messages.append(b"".join(self._fragments))
                self._fragments = []
        elif opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self.closed = (
                int.from_bytes(payload[:2], "big") if payload else 1005,
                payload[2:].decode("utf-8", "replace"),
            )
        elif opcode != PONG:
            raise ProtocolError(f"{self.path}: a frame with the first byte {first:#x}")

    def send(self, text: str) -> None:
        """Sends a text message."""
        self._send(TEXT, text.encode())

    def close(self, code: int = 1000) -> None:
        """Says goodbye and hangs up, without waiting for the answer."""
        try:
            self._send(CLOSE, code.to_bytes(2, "big"))
        finally:
            self.sock.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        size, mask = len(payload), os.urandom(4)
        header = bytes([0x80 | opcode])
        if size < 126:
            header += bytes([0x80 | size])
        elif size < 1 << 16:
            header += bytes([0x80 | 126]) + size.to_bytes(2, "big")
        else:
            header += bytes([0x80 | 127]) + size.to_bytes(8, "big")
        self.sock.sendall(header + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))


# the socket that got it, at how many nanoseconds since 1970, and its text
Message = tuple[WebSocket, int, bytes]


class Inbox:
    """Many sockets on one thread. Bytes are stamped as soon as they are read and looked at later, so that decoding one
    socket's frames does not delay the stamp of the next one's."""

    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []
        self._selector = selectors.DefaultSelector()
        self._raw: list[tuple[WebSocket, int, bytes]] = []

    def open(self, host: str, port: int, path: str) -> WebSocket:
        """Connects one more socket."""
        opened = WebSocket(host, port, path)
        self.sockets.append(opened)
        self._selector.register(opened.sock, selectors.EVENT_READ, opened)
        return opened

    def collect(self, timeout: float) -> bool:
        """Waits at most `timeout` seconds and reads what is there; whether there was anything."""
        ready = self._selector.select(timeout)
        for key, _ in ready:
            data = key.data.sock.recv(1 << 18)
            self._raw.append((key.data, time.time_ns(), data))
            if not data:
                self._selector.unregister(key.fileobj)
        return bool(ready)

    def pending(self) -> int:
        """Number of reads that were not looked at yet."""
        return len(self._raw)

    def messages(self, limit: int | None = None) -> Iterator[Message]:
        """Yields (socket, nanoseconds since 1970, text) of what was read, oldest first."""
        raw, self._raw = (self._raw, []) if limit is None else (self._raw[:limit], self._raw[limit:])
        for owner, stamp, data in raw:
            for text in owner.feed(data):
                yield owner, stamp, text

    def wait_for(self, condition: Callable[[list[Message]], bool], seconds: float) -> list[Message] | None:
        """Collects until `condition(texts so far)` holds; the messages, or None when the time is over."""
        seen: list[Message] = []
        deadline = time.monotonic() + seconds
        while True:
            seen.extend(self.messages())
            if condition(seen):
                return seen
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.collect(left)

    def close(self) -> None:
        """Closes all of them."""
        self._selector.close()
        for opened in self.sockets:
            opened.sock.close()
        self.sockets = []
