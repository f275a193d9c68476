"""A socket as the server sees it, and the subscriptions on it. Owns what messages look like; checks that commands are
well-formed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.asyncio.server import ServerConnection

from .failure import Unsupported

Message = dict[str, Any]

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


class Stream:
    """What it says after the client has left it is not sent."""

    def __init__(self, socket: Socket, channel: str, view: str | None, command: Message, by_path: bool) -> None:
        self.socket = socket
        self._by_path = by_path
        self.channel = channel
        self.view = view
        self.command = command
        self.is_left = False
        #: the place of the last change, until the end of its cut is said
        self.in_cut: str | None = None

    @property
    def since(self) -> str | None:
        since = self.command.get("since")
        return since if isinstance(since, str) else None

    def message(self, kind: str, **fields: Any) -> Message:
        view = {} if self.view is None else {"view": self.view}
        return {"type": kind, "channel": self.channel, **view, **fields}

    def say(self, kind: str, **fields: Any) -> Stream:
        """A message of this subscription."""
        if not self.is_left:
            self.socket.send(self.message(kind, **fields))
        return self

    def subscribed(self, cursor: str, recovered: bool = False, replayed: int = 0) -> Stream:
        return self.say("subscribed", cursor=cursor, recovered=recovered, replayed=replayed, **ref_of(self.command))

    def part(self, *rows: Message, **fields: Any) -> Stream:
        """A part of a snapshot that is not the last one."""
        return self.say("snapshot", rows=list(rows), last=False, **fields)

    def snapshot(self, cursor: str, *rows: Message) -> Stream:
        """A whole snapshot, or the end of one."""
        return self.part(*rows).say("snapshot", rows=[], last=True, cursor=cursor)

    def gap(self, reason: str) -> Stream:
        return self.say("gap", reason=reason)

    def cut(self, cursor: str) -> Stream:
        """The end of a cut of which nothing more is of this channel."""
        self.in_cut = None
        return self.say("cut", cursor=cursor)

    def heartbeat(self, cursor: str) -> Stream:
        return self.say("heartbeat", cursor=cursor)

    def change(self, number: int, cursor: str, data: Message | None, action: str = "updated", **fields: Any) -> Stream:
        """A change; `number` is its id."""
        if self.is_left:
            return self
        message = self.message(
            "realtime_update", entity_type=self.channel, action=action, data=data, **stamp(number, cursor), **fields
        )
        if action == "updated":
            message.setdefault("changed", ["name"])
        self.in_cut = cursor
        del message["channel"]
        self.socket.send(message)
        return self

    def notification(self, number: int, cursor: str, data: Message) -> Stream:
        """A notification; it has no view."""
        self.socket.send(
            {
                "type": "notification",
                "notification_type": "pet_created",
                "user_id": self.channel.removeprefix("user/"),
                "data": data,
                **stamp(number, cursor),
                "last": True,
            }
        )
        return self

    def refuse(self, code: str, **fields: Any) -> None:
        """The answer to the command is an error."""
        if self._by_path:
            raise Unsupported("commands: it names the channel in the path")
        self.socket.forget(self)
        self.socket.send(
            {"type": "error", "code": code, "message": f"that is {code}", **fields, **ref_of(self.command)}
        )

    def lose(self, code: str) -> None:
        """It was fine until now, and no longer is."""
        self.socket.forget(self)
        self.say("error", code=code, message=f"that is {code} now")


def ref_of(command: Message) -> Message:
    return {"ref": command["ref"]} if "ref" in command else {}


def stamp(number: int, cursor: str) -> Message:
    return {
        "timestamp": "2024-01-15T10:30:00.123456Z",
        "id": number,
        "cursor": cursor,
        "tx": str(number // 10),
        "actor": "clinic_app",
    }


class Socket:
    """The server's end of a socket."""

    def __init__(
        self, connection: ServerConnection, number: int, note: Callable[[str], None], mistakes: list[str]
    ) -> None:
        self._note = note
        #: what is wrong with what clients sent
        self._mistakes = mistakes
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
        self._note(f"socket {self.number}: {text}")

    def received(self, text: str | bytes) -> None:
        self.note(f"client: {text[:200]!r}"[:220])
        try:
            command = json.loads(text)
            kind = command["type"]
        except (ValueError, TypeError, KeyError):
            self._mistakes.append(f"{text[:80]!r} is no command")
            return
        for name, types in TYPES.items():
            if name in command and not isinstance(command[name], types):
                self._mistakes.append(f"{name} of a command is {command[name]!r}")
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
            self._mistakes.append(f"there is no command {kind}")

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
            self._mistakes.append(f"subscribe with channel {channel!r} and view {view!r}")
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
