"""The wire, as docs/reference/protocol.md describes it: what the server sends."""

from dataclasses import dataclass
from typing import Any

#: A message as it is parsed.
Message = dict[str, Any]
#: A row: column and value.
Row = dict[str, Any]
#: What a subscription is called on its socket: channel and view. The view of a whole channel is None.
Name = tuple[str, str | None]


@dataclass(frozen=True)
class Change:
    """A change of a row."""

    channel: str
    #: `created`, `updated`, `deleted`, `truncated`, with a filter also `entered` and `left`, or what `rowcast.publish` was given
    action: str
    #: the row after the change; of `deleted` and `left` before it; of `truncated` None
    data: Any
    #: the position after this change
    cursor: str
    #: unique in the database; orders the changes of a transaction, and no others
    id: int
    #: the transaction
    tx: str
    #: when it was captured: RFC 3339, UTC, microseconds
    timestamp: str
    #: of `updated` the columns that differ; with `latest` none is named
    changed: tuple[str, ...] = ()
    #: where the primary key changed: the key as it was. Asked for with `old`: all that changed, as it was
    old: Row | None = None
    #: `row_bytes`: the row is too long, `data` holds its key alone
    omitted: str | None = None
    #: who wrote: a hint, no proof
    actor: str | None = None
    #: nothing of the cut follows on this channel
    last: bool = False


@dataclass(frozen=True)
class Notification:
    """Something that a user is told."""

    notification_type: str
    user_id: str
    data: Any
    cursor: str
    id: int
    tx: str
    timestamp: str
    omitted: str | None = None
    actor: str | None = None
    last: bool = False


@dataclass(frozen=True)
class Subscribed:
    """A subscription is live: every change after `cursor` follows."""

    cursor: str
    #: nothing is missing since the cursor that was asked for
    recovered: bool
    #: changes that came before this
    replayed: int


def change_of(message: Message) -> Change:
    return Change(message["entity_type"], message["action"], message["data"], *_stamp(message),
                  tuple(message.get("changed", ())), message.get("old"), message.get("omitted"), message.get("actor"), message.get("last", False))


def notification_of(message: Message) -> Notification:
    return Notification(message["notification_type"], message["user_id"], message["data"], *_stamp(message),
                        message.get("omitted"), message.get("actor"), message.get("last", False))


def _stamp(message: Message) -> tuple[str, int, str, str]:
    return message["cursor"], message["id"], message["tx"], message["timestamp"]


def name_of(message: Message) -> Name | None:
    """The subscription that a message is of. Commands have its name as `ref`, which comes back in the answer. What is about
    the whole socket is of none.
    """
    if isinstance(ref := message.get("ref"), list):
        return ref[0], ref[1]
    kind, channel = message["type"], message.get("channel")
    if kind == "realtime_update":
        channel = message["entity_type"]
    elif kind == "notification":
        channel = user_channel(message["user_id"])
    return None if channel is None else (channel, message.get("view"))


def user_channel(user: str | int) -> str:
    return f"user/{user}"
