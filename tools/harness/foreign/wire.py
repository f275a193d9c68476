"""A Postgres client as small as this tester needs it: the simple query protocol over a Unix socket, and COPY FROM STDIN.

Owns one session and its bytes. It exists because psql tells neither the state of a transaction nor the bytes of a value
that is no text in any encoding. What is sent and received is text in the charset of the database.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass, field

PORT = 5432
PROTOCOL = 196608


class Failed(Exception):
    """The server refused a statement, or ended the session."""

    def __init__(self, state: str, message: str, context: str = "") -> None:
        super().__init__(f"{message} ({state})")
        self.state, self.message, self.context = state, message, context


@dataclass
class Answer:
    """What a statement gave: rows of raw values, and the command's tag."""

    tag: str = ""
    rows: list[tuple[bytes | None, ...]] = field(default_factory=list)


class Connection:
    """One session, as a user that needs no password."""

    def __init__(
        self, directory: str, database: str, user: str, charset: str, codec: str, name: str = "", patience: float = 20.0
    ) -> None:
        self.codec, self.status, self.is_open = codec, b"I", True
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(patience)
        self._socket.connect(f"{directory}/.s.PGSQL.{PORT}")
        words = {"user": user, "database": database, "client_encoding": charset, "application_name": name}
        body = b"".join(f"{key}\0{value}\0".encode("utf-8", "surrogateescape") for key, value in words.items())
        self._socket.sendall(struct.pack("!II", len(body) + 9, PROTOCOL) + body + b"\0")
        try:
            self._answer(None)
        except BaseException:
            self.close()
            raise

    def run(self, sql: str, copy: str | None = None) -> Answer:
        """Runs one statement; `copy` is what it is fed where it is a COPY."""
        body = sql.encode(self.codec, "surrogateescape") + b"\0"
        try:
            self._socket.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)
        except OSError as error:
            self.is_open = False
            raise Failed("08006", f"the session is gone: {error}") from None
        return self._answer(copy)

    def value(self, sql: str) -> str:
        """The first value of the first row."""
        return self.texts(sql)[0][0]

    def texts(self, sql: str) -> list[list[str]]:
        """The rows as text, null as an empty one."""
        return [[(value or b"").decode(self.codec, "surrogateescape") for value in row] for row in self.run(sql).rows]

    def close(self) -> None:
        """Hangs up, with a word."""
        if self.is_open:
            self.is_open = False
            with contextlib.suppress(OSError):
                self._socket.sendall(b"X\0\0\0\4")
        self._socket.close()

    def _answer(self, copy: str | None) -> Answer:
        answer, failure = Answer(), None
        while True:
            kind, body = self._message()
            if kind == b"D":
                answer.rows.append(fields(body))
            elif kind == b"C":
                answer.tag = body.rstrip(b"\0").decode()
            elif kind == b"E":
                failure = self._failure(body)
                if failure.state.startswith("57P") or body.startswith(b"SFATAL"):
                    self.is_open = False
                    raise failure
            elif kind == b"G":
                data = (copy or "").encode(self.codec, "surrogateescape")
                self._socket.sendall(b"d" + struct.pack("!I", len(data) + 4) + data + b"c\0\0\0\4")
            elif kind == b"Z":
                self.status = body
                if failure:
                    raise failure
                return answer

    def _failure(self, body: bytes) -> Failed:
        parts = {part[:1]: part[1:].decode(self.codec, "replace") for part in body.split(b"\0") if part}
        return Failed(parts.get(b"C", ""), parts.get(b"M", ""), parts.get(b"W", ""))

    def _message(self) -> tuple[bytes, bytes]:
        head = self._take(5)
        return head[:1], self._take(int.from_bytes(head[1:], "big") - 4)

    def _take(self, count: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < count:
            try:
                part = self._socket.recv(max(65536, count - have))
            except OSError as error:
                self.is_open = False
                raise Failed("08006", f"no answer: {error}") from None
            if not part:
                self.is_open = False
                raise Failed("08006", "the server hung up")
            parts.append(part)
            have += len(part)
        data = b"".join(parts)
        self._rest = data[count:]
        return data[:count]


def fields(body: bytes) -> tuple[bytes | None, ...]:
    """The values of a DataRow."""
    values: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        size = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        values.append(None if size < 0 else body[at : at + size])
        at += max(size, 0)
    return tuple(values)
