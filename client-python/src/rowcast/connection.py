"""One socket at a time, replaced whenever it is lost, and the subscriptions that it carries."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Literal, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from .backoff import Backoff
from .error import RowcastError
from .messages import Message, Name, name_of
from .subscription import AnySubscription

#: Seconds of silence after which the server is asked whether it lives. Its heartbeats come after 25 to 50 s.
PING_AFTER = 30.0
#: A server that lives answers within so many seconds.
ANSWER_WITHIN = 5.0
#: A socket that does not open within so many seconds is given up.
OPEN_WITHIN = 15.0
#: The server has so many seconds to answer a close frame.
CLOSE_WITHIN = 1.0
#: Collections wait for one that is read anew, so that all show the same moment: as long as something of it comes, and so many
#: seconds beyond. Then they go on without it.
PATIENCE = 10.0
#: A channel that was there, and is not, may be there again: its table is watched anew. It is asked for so often.
ABSENT = 10.0

#: Close codes that end the subscriptions, as codes of `RowcastError`. After any other one they resume.
FINAL = {4400: "bad_request", 4401: "unauthenticated", 4403: "forbidden", 4404: "unknown_channel"}
#: Errors after which the server no longer serves a channel that was fine until then.
LOST = ("unknown_channel", "bad_filter", "forbidden")

#: `idle`: nothing is subscribed. `live`: what is shown is current. `source_down`: the server is without its database.
#: `connecting`: there is no socket yet or no longer, or a subscription has not begun.
State = Literal["idle", "live", "source_down", "connecting"]

#: A JWT, or a function that is asked for one at each connection, and before one ends.
Token = str | Callable[[], str | Awaitable[str]]


class Host(Protocol):
    """The client that holds the connections."""

    base: str
    token: Token | None

    def place(self, subscription: AnySubscription) -> None:
        """Finds a connection for a subscription."""

    def forget(self, connection: "Connection") -> None:
        """Forgets a connection that takes nothing any more."""

    def changed(self) -> None:
        """The state of a connection may have changed."""


class Connection:
    """Owns when to connect, to ping and to give up; what a message means to a subscription is the subscription's."""

    def __init__(self, host: Host, first: AnySubscription) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[Name, AnySubscription] = {}
        # Left and not confirmed: what still comes under these names is not for the next subscription.
        self._leaving: set[Name] = set()
        self._backoff = Backoff()
        self._socket: ClientConnection | None = None
        self._commands: asyncio.Queue[str] = asyncio.Queue()  # bounded by the subscriptions
        self._woken = asyncio.Event()
        self._heard_at = 0.0
        self._renewal: asyncio.TimerHandle | None = None  # until another token is asked for
        self._renewing: asyncio.Task[None] | None = None
        self._absent: asyncio.TimerHandle | None = None  # until channels that are gone are asked for again
        self._slow: asyncio.TimerHandle | None = None  # until a command that was one too many is sent again
        self._is_full = False
        self._is_down = False
        self._is_held = False  # nothing came since a cut that some subscription was waited for at
        self._held_since: float | None = None
        self._held: asyncio.TimerHandle | None = None  # until they are held up no longer
        self.add(first)
        self.task = self._loop.create_task(self._run())

    @property
    def state(self) -> State:
        if self._is_down:
            return "source_down"
        is_live = self._socket and all(subscription.is_current for subscription in self._subscriptions.values())
        return "live" if is_live else "connecting"

    def takes(self, subscription: AnySubscription) -> bool:
        """Whether there is room for a subscription: notifications name no view, so a socket carries each user once."""
        return not self._is_full and not (subscription.channel.startswith("user/") and (subscription.channel, None) in self._subscriptions)

    def add(self, subscription: AnySubscription) -> None:
        """Carries a subscription, under a name that no other one has here."""
        channel, view = subscription.channel, subscription.wish.view
        subscription.name, count = (channel, view), 1
        while subscription.name in self._subscriptions:
            count += 1
            subscription.name = (channel, f"{view or 'all'}-{count}")
        subscription.connection = self
        self._subscriptions[subscription.name] = subscription
        self._join(subscription)

    def remove(self, subscription: AnySubscription) -> None:
        if self._subscriptions.pop(subscription.name, None):
            self._leave(subscription.name)
            self._host.changed()
            # a caller that subscribes in its place before this turn ends finds the socket open
            self._loop.call_soon(self._after_removal)

    def rejoin(self, subscription: AnySubscription) -> None:
        """Begins a subscription anew, once the server has confirmed that it was left."""
        self._leave(subscription.name)

    def wake(self) -> None:
        """The network may be back, or the machine awake: waits no longer, and trusts the open socket no longer."""
        self._woken.set()

    def close(self, error: RowcastError | None = None) -> None:
        """Ends everything that it carries."""
        # first: a caller that subscribes again when told of the end needs another connection
        self._host.forget(self)
        self.task.cancel()
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            subscription.end(error)
        self._host.changed()

    async def _run(self) -> None:
        while True:
            try:
                await self._session()
            except Exception as error:
                # nobody is logged in, or whatever else keeps a socket from being made
                self._tell(RowcastError("no_socket", repr(error), False))
            self._woken.clear()
            await self._pause(self._backoff.next())

    async def _pause(self, seconds: float) -> None:
        """Until it is woken. Before Python 3.12 `wait_for` swallows a cancellation that comes just behind the event."""
        waking = self._loop.create_task(self._woken.wait())
        try:
            await asyncio.wait([waking], timeout=seconds)
        finally:
            waking.cancel()

    async def _session(self) -> None:
        """One attempt, and the socket that comes of it, to its end."""
        token = self._host.token
        if callable(token):
            token = await ask(token)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            socket = await connect(self._host.base + "/ws?cuts=true", subprotocols=[Subprotocol("rowcast.v1")], additional_headers=headers,
                                   compression=None, open_timeout=OPEN_WITHIN, close_timeout=CLOSE_WITHIN, ping_interval=None, max_size=None)
        except (OSError, WebSocketException, asyncio.TimeoutError, EOFError):
            return
        self._socket = socket
        self._commands = asyncio.Queue()
        self._heard_at = self._loop.time()
        self._woken.clear()
        self._backoff.opened()
        tasks = [self._loop.create_task(part(socket)) for part in (self._read, self._write, self._watch)]
        try:
            for subscription in list(self._subscriptions.values()):
                self._join(subscription)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._lost()
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
                await socket.close()
            finally:
                socket.transport.abort()  # where it was cancelled in the middle of closing
        self._closed(socket.close_code or 1006, socket.close_reason or "")

    async def _read(self, socket: ClientConnection) -> None:
        """Until the socket ends, or what comes is no message."""
        count = 0
        async for text in socket:
            count += 1
            if count % 100 == 0:
                await asyncio.sleep(0)  # what has come in one piece is more than iterators have room for
            self._heard_at = self._loop.time()
            try:
                self._heard(json.loads(text))
            except Exception as error:
                # what stands between has answered in the server's place
                self._tell(RowcastError("bad_frame", f"this is no message of a server: {text[:80]!r} ({error!r})", False))
                return

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            await socket.send(await self._commands.get())

    async def _watch(self, socket: ClientConnection) -> None:
        """Until the server was silent for too long."""
        while True:
            heard_at = self._heard_at
            await self._pause(max(0, heard_at + PING_AFTER - self._loop.time()))
            if self._heard_at == heard_at or self._woken.is_set():
                self._woken.clear()
                heard_at = self._heard_at
                self._send({"type": "ping"})
                await asyncio.sleep(ANSWER_WITHIN)
                if self._heard_at == heard_at:
                    return

    def _heard(self, message: Message) -> None:
        kind, name = message["type"], name_of(message)
        if kind == "token_expiring":
            self._expires(message["expires_in"])
        elif kind == "error" and message["code"] == "rate_limited":
            # whichever command it was: there may be more
            self._slow_down(message.get("retry_after", 1))
        elif kind == "cut" and "channel" not in message:
            self._cut()
        elif name:
            self._deliver(name, message)
        elif kind == "error":
            self._complained(message)
        self._host.changed()

    def _cut(self) -> None:
        """What all subscriptions were told is the database at one moment, once those that were shown before are live again."""
        subscriptions = list(self._subscriptions.values())
        late = [subscription for subscription in subscriptions if subscription.is_shown and not subscription.is_live]
        self._is_held = bool(late)
        if self._held:
            self._held.cancel()
        if not late:
            self._held_since = None
        else:
            self._held_since = self._held_since or self._loop.time()
            rest = self._held_since + PATIENCE - self._loop.time()
            if rest > 0:
                self._held = self._loop.call_later(rest, self._after_removal)
                return
        # those come back as new ones do
        for subscription in late:
            subscription.is_shown = False
        # all are shown before anybody is told of one
        for tell in [subscription.cut() for subscription in subscriptions]:
            if tell:
                tell()

    def _after_removal(self) -> None:
        if not self._subscriptions:
            self.close()
        elif self._is_held:  # one that was waited for is gone
            self._cut()
        self._host.changed()

    def _deliver(self, name: Name, message: Message) -> None:
        kind = message["type"]
        code = message["code"] if kind == "error" else None
        # that one was left says nothing of the database
        self._is_down = code == "source_down" or (self._is_down and (code is not None or kind == "unsubscribed"))
        subscription = self._subscriptions.get(name)
        if name in self._leaving:
            # refused before it was left, there was nothing to leave
            if kind == "unsubscribed" or code == "not_subscribed":
                self._leaving.remove(name)
                if subscription:
                    self._join(subscription)
        elif subscription and code:
            self._refused(subscription, code, message["message"])
        elif subscription:
            if subscription.is_shown and not subscription.is_live:
                self._held_since = None  # what is waited for is on its way, and patience begins anew
            subscription.receive(message)
            # the next cut has begun, unless it is of one that shows nothing yet
            if kind != "heartbeat" and subscription.is_live:
                self._is_held = False

    def _complained(self, message: Message) -> None:
        """An error that names no channel."""
        code, text = message["code"], message["message"]
        if code in LOST:
            # which one of several, the answers to the next commands say
            if len(self._subscriptions) + len(self._leaving) > 1:
                self._hang_up()
            else:
                for subscription in list(self._subscriptions.values()):
                    self._lose(subscription, code, text)
            return
        # this one comes once for each channel
        if code != "source_down" or not self._is_down:
            self._tell(RowcastError(code, text, False))
        self._is_down |= code == "source_down"

    def _refused(self, subscription: AnySubscription, code: str, text: str) -> None:
        if code == "too_many_subscriptions" and len(self._subscriptions) > 1:
            self._is_full = True
            del self._subscriptions[subscription.name]
            subscription.is_shown = False
            self._host.place(subscription)
            self._loop.call_soon(self._after_removal)
        elif code == "source_down":
            subscription.tell(RowcastError(code, text, False))
        elif code not in ("already_subscribed", "not_subscribed"):
            # those answer a command that _slow_down sent once more
            self._lose(subscription, code, text)

    def _lose(self, subscription: AnySubscription, code: str, text: str) -> None:
        # its table may be watched again, or is locked for the moment
        if code != "unanswered" and (code != "unknown_channel" or not subscription.was_live):
            subscription.end(RowcastError(code, text))
            return
        # what it shows stays, and nobody waits for it
        subscription.is_live = subscription.is_current = subscription.is_shown = subscription.is_answered = False
        subscription.tell(RowcastError(code, text, False))
        if self._absent:
            self._absent.cancel()
        self._absent = self._loop.call_later(ABSENT, self._ask_again)
        self._loop.call_soon(self._after_removal)

    def _ask_again(self) -> None:
        for subscription in list(self._subscriptions.values()):
            if not subscription.is_answered:
                self._join(subscription)

    def _slow_down(self, pause: float) -> None:
        """A command was one too many, and others may be: those without an answer are sent again, with pauses."""
        names = [*self._leaving, *self._subscriptions]

        def next_one() -> None:
            while names:
                name = names.pop(0)
                subscription = self._subscriptions.get(name)
                if name in self._leaving:
                    self._send_leave(name)
                elif subscription and not subscription.is_answered:
                    self._join(subscription)
                else:
                    continue
                self._slow = self._loop.call_later(pause, next_one)
                return

        if self._slow:
            self._slow.cancel()
        self._slow = self._loop.call_later(pause, next_one)

    def _expires(self, seconds: float) -> None:
        """The token ends in so many seconds. It is renewed at half of them, so that nobody asks without a pause where tokens
        are short, or where the same one is given again.
        """
        token = self._host.token
        if not callable(token):
            return
        if self._renewal:
            self._renewal.cancel()
        given = token
        self._renewal = self._loop.call_later(max(seconds, 2) / 2, lambda: self._begin_renewal(given))

    def _begin_renewal(self, token: Callable[[], str | Awaitable[str]]) -> None:
        self._renewing = self._loop.create_task(self._renew(token))

    async def _renew(self, token: Callable[[], str | Awaitable[str]]) -> None:
        """Brings another token on the open socket. Where it cannot be had, 4401 is the end of this socket, not of more."""
        try:
            self._send({"type": "auth", "token": await ask(token)})
        except Exception as error:
            self._tell(RowcastError("unauthenticated", repr(error), False))

    def _closed(self, code: int, reason: str) -> None:
        text = reason or f"the server closed the socket with {code}"
        name = FINAL.get(code)
        # a channel is gone or a filter fits no longer: which one of several, the answers to the next commands say
        was_there = code == 4404 and any(subscription.was_live for subscription in self._subscriptions.values())
        is_partial = was_there or (code in (4400, 4404) and len(self._subscriptions) > 1)
        is_renewable = code == 4401 and callable(self._host.token)
        if is_renewable:
            self._tell(RowcastError("unauthenticated", text, False))
        if name and not is_partial and not is_renewable:
            self.close(RowcastError(name, text))

    def _tell(self, error: RowcastError) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.tell(error)

    def _join(self, subscription: AnySubscription) -> None:
        if self._socket and subscription.name not in self._leaving:
            self._send(subscription.begin())

    def _leave(self, name: Name) -> None:
        if self._socket and name not in self._leaving:
            self._leaving.add(name)
            self._send_leave(name)

    def _send_leave(self, name: Name) -> None:
        channel, view = name
        # the empty one is that of the whole channel; none would be all of them
        self._send({"type": "unsubscribe", "channel": channel, "view": view or "", "ref": name})

    def _send(self, command: Message) -> None:
        self._commands.put_nowait(json.dumps(command))

    def _hang_up(self) -> None:
        """Ends the socket; the next one follows after a pause."""
        if self._socket:
            self._socket.transport.abort()

    def _lost(self) -> None:
        """The socket has ended."""
        for planned in (self._renewal, self._renewing, self._slow, self._absent, self._held):
            if planned:
                planned.cancel()
        self._leaving.clear()
        self._is_down = self._is_held = False
        self._socket = None
        self._host.changed()


async def ask(token: Callable[[], str | Awaitable[str]]) -> str:
    """The token that a function gives. That it asks a task which somebody cancels is an error of its own, and ends no other."""
    try:
        answer = token()
    except asyncio.CancelledError as error:
        raise RuntimeError("what the token function asked was cancelled") from error
    if not isawaitable(answer):
        return answer
    asking = asyncio.ensure_future(answer)
    try:
        await asyncio.wait([asking])
    finally:
        asking.cancel()
    if asking.cancelled():
        raise RuntimeError("what the token function waits for was cancelled")
    return asking.result()
