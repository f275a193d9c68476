"""A client of server-sent events, with the face of the WebSocket client: `sock`, `feed`, `closed`."""

from __future__ import annotations

import json
import socket

from harness.websocket import Refused


def request(host: str, port: int, path: str) -> bytes:
    """What asks for one."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/event-stream\r\n\r\n".encode()


class EventStream:
    """One `/sse/…`, read as chunked HTTP."""

    def __init__(self, host: str, port: int, path: str, timeout: float = 10) -> None:
        self._begin(socket.create_connection((host, port), timeout), path)
        self.sock.sendall(request(host, port, path))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.sock.recv(1)
            if not byte:
                raise OSError(f"{path}: closed during the request: {head!r}")
            head += byte
        status = head.split(b" ")[1].decode()
        if status != "200":
            body = self.sock.recv(4096).decode("utf-8", "replace")
            self.sock.close()
            raise Refused(f"{path}: refused: {status}: {body}", status)
        self._is_chunked = b"transfer-encoding: chunked" in head.lower()

    @classmethod
    def opened(cls, sock: socket.socket, path: str, head: bytes) -> EventStream:
        """One whose request was answered with this head, on a connection of the caller's."""
        stream = cls.__new__(cls)
        stream._begin(sock, path)
        status = head.split(b" ")[1].decode()
        if status != "200":
            raise Refused(f"{path}: refused: {status}", status)
        stream._is_chunked = b"transfer-encoding: chunked" in head.lower()
        return stream

    def _begin(self, sock: socket.socket, path: str) -> None:
        self.sock, self.path = sock, path
        self.closed: tuple[int, str] | None = None
        self._chunked, self._text = b"", b""

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes as they came and returns the data of the events that are complete."""
        if not data and self.closed is None:
            self.closed = (1006, "the stream ended")
        self._text += self._unchunked(data) if self._is_chunked else data
        *events, self._text = self._text.split(b"\n\n")
        messages = []
        for event in events:
            # the lines of one event's data are joined by line feeds
            lines = event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            data_lines = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
            if any(line == b"event: close" for line in lines):
                told = json.loads(b"\n".join(data_lines))
                self.closed = (told["code"], told["reason"])
            elif data_lines:
                messages.append(b"\n".join(data_lines))
        return messages

    def _unchunked(self, data: bytes) -> bytes:
        self._chunked += data
        parts = []
        while b"\r\n" in self._chunked:
            size_text, _, rest = self._chunked.partition(b"\r\n")
            size = int(size_text.split(b";")[0], 16)
            if len(rest) < size + 2:
                break
            parts.append(rest[:size])
            self._chunked = rest[size + 2 :]
            if size == 0:
                self.closed = self.closed or (1006, "the stream ended")
        return b"".join(parts)
