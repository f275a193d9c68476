"""A subscription as the server sees it. Owns what its messages look like; the socket writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .failure import Unsupported

if TYPE_CHECKING:
    from .server import Socket

Message = dict[str, Any]


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
