"""The subscribers: clients that come, listen, hang up in every way there is, and come back with their cursors.

Owns sockets and when they open and close; what the messages mean is `subscription`'s. One thread reads all sockets; only
connecting, which a stopped node holds up, is done by others.
"""

import contextlib
import json
import random
import selectors
import socket
import struct
import time
import urllib.parse
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.websocket import ProtocolError, Refused, WebSocket

from .subscription import Paged, Subscription, Windowed
from .tables import CHANNELS, disagreements

SILENCE = 15.0  # seconds without a message, with a heartbeat each second: that socket is dead
EXPECTED_CLOSES = (1001, 1006, 4408, 4503)
COMPLAINTS = 20  # so many are kept to be shown


class Audience:
    """All clients, and what became of them."""

    def __init__(
        self, stack: contextlib.ExitStack, nodes: Any, seed: int, first_rows: Any, excuses_gap: Any = None
    ) -> None:
        """`excuses_gap` says of a node's kind, a reason, and whether it came in the middle of the stream, if that gap may be;
        None: no gap is a mistake."""
        self.tally: Counter[Any] = Counter()
        self.complaints: list[Any] = []
        self.excuses_gap = excuses_gap
        self.began = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._dialling = ThreadPoolExecutor(32)  # a stopped node holds up every one that comes to it
        rng = random.Random(f"{seed}/audience")
        self.clients = [
            Client(
                self,
                number,
                nodes,
                channels,
                first_rows if follows else None,
                wants_cuts,
                sort,
                random.Random(f"{seed}/client/{number}"),
            )
            for number, (channels, follows, wants_cuts, sort) in enumerate(self._places(rng))
        ]
        stack.callback(self.close)

    @staticmethod
    def _places(rng: random.Random) -> Iterator[Any]:
        """(channels, whether it follows from the start, whether it wants to be told of cuts, how it holds a channel) of each
        client. One that does not follow from the start begins with a snapshot, or reads pages, or shows the first rows
        in an order. One that wants cuts compares entries with totals at each of them."""
        for channel in CHANNELS:
            for number in range(6 if channel.shown == "true" else 2):
                yield [channel], number % 2 == 0, False, Subscription
        for number in range(10):
            yield rng.sample(CHANNELS, rng.randint(2, len(CHANNELS))), number % 2 == 0, False, Subscription
        summed = [channel for channel in CHANNELS if channel.name in ("entries", "totals")]
        others = [channel for channel in CHANNELS if channel not in summed]
        for number in range(6):
            yield (
                [*rng.sample(others, rng.randint(0, len(others))), *rng.sample(summed, 2)],
                number % 2 == 0,
                True,
                Subscription,
            )
        for number in range(6):
            yield rng.sample(CHANNELS, 1 + number % 3), False, False, Paged
        in_order = [channel for channel in CHANNELS if channel.shown == "true"]
        for number in range(8):
            yield rng.sample(in_order, 1 + number % 3), False, False, Windowed

    def complain(self, text: str) -> None:
        """Keeps what no correct server does."""
        self.tally["complaints"] += 1
        if len(self.complaints) < COMPLAINTS:
            self.complaints.append(f"{time.monotonic() - self.began:.1f} s: {text[:600]}")

    def open(self, seconds: float) -> Any:
        """Lets those in that follow from the start; whether capture is live for all of them."""
        followers = [client for client in self.clients if client.follows]
        for client in followers:
            client.leaves, client.due = False, 0.0
        return self.pump(seconds, until=lambda: all(client.has_joined() for client in followers))

    def let_loose(self, seconds: float) -> None:
        """From now on clients come and go; those with a snapshot come for the first time within `seconds`."""
        now = time.monotonic()
        for client in self.clients:
            client.leaves = True
            if client.follows:
                client.plan_to_leave(now)
            else:
                client.due = now + client.rng.uniform(0, seconds)

    def stay(self) -> None:
        """From now on no client leaves, and one that is away comes back soon."""
        now = time.monotonic()
        for client in self.clients:
            client.leaves = False
            client.stay(now)

    def pump(self, seconds: float, until: Any = lambda: False) -> Any:
        """Reads, drops and reconnects for so long, or until something holds; whether it holds."""
        deadline = time.monotonic() + seconds
        ticked = 0.0
        while not (done := until()) and (now := time.monotonic()) < deadline:
            for key, _ in self._selector.select(0.01):
                key.data.read()
            if now - ticked > 0.005:
                ticked = now
                for client in self.clients:
                    client.tick(now)
        return done

    def subscriptions(self) -> list[Any]:
        """(client's number, subscription) of all of them."""
        return [(number, each) for number, client in enumerate(self.clients) for each in client.subscriptions.values()]

    def listen_to(self, client: Any, socket: Any) -> None:
        self._selector.register(socket.sock, selectors.EVENT_READ, client)

    def ignore(self, socket: Any) -> None:
        self._selector.unregister(socket.sock)

    def dial(self, *arguments: Any) -> Any:
        return self._dialling.submit(dial, *arguments)

    def close(self) -> None:
        for client in self.clients:
            client.hang_up("vanish")
        self._dialling.shutdown(wait=False)
        self._selector.close()


def dial(host: str, port: int, path: str, sluggish: Any) -> Any:
    opened = WebSocket(host, port, path, timeout=3)
    if sluggish:
        # not less than a segment of the loopback interface: below that TCP sends a few bytes each fifth of a second
        opened.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    return opened


class Client:
    """A browser, say: at most one socket, for one channel or several, and what it remembers while it has none."""

    def __init__(
        self,
        audience: Any,
        number: int,
        nodes: Any,
        channels: Any,
        first_rows: Any,
        wants_cuts: Any,
        sort: Any,
        rng: random.Random,
    ) -> None:
        self.number = number
        self._asks_for_rows = sort is not Subscription
        self.wants_cuts = wants_cuts
        self.follows = first_rows is not None
        self.leaves = False
        self.due = float("inf")  # when it connects
        self.rng = rng
        self.journal: deque[Any] = deque(maxlen=2000)  # (ids so far, line)
        self._audience, self._nodes = audience, nodes
        self._tally, self._complain = audience.tally, audience.complain
        self.subscriptions = {
            channel.name: sort(channel, audience.tally, self._complain, first_rows and first_rows[channel.name])
            for channel in channels
        }
        self._socket: WebSocket | None = None
        self._dialled: Any = None
        self._node: Any = None
        self._place_of: dict[Any, Any] = {}  # channel → the kind of node that its place is from
        self._leaves_at = self._dozes_at = self._wakes_at = float("inf")
        self._leaves_after = float("inf")  # messages
        self._heard = 0.0
        self._attempts = 0

    def has_joined(self) -> Any:
        """Whether it is connected and was told `subscribed` on all of its channels."""
        return self._socket is not None and all(each.joined for each in self.subscriptions.values())

    def tick(self, now: float) -> None:
        """Does what is due: connects, leaves, dozes off, wakes up."""
        if self._socket is None:
            if self._dialled is None and now >= self.due:
                self._dial()
            elif self._dialled is not None and self._dialled.done():
                self._connected(now)
        elif now >= self._leaves_at:
            self._leave(now)
        elif now >= self._wakes_at:
            self._audience.listen_to(self, self._socket)
            self._dozes_at = self._wakes_at = float("inf")
            self._heard = now
        elif now >= self._dozes_at:
            self._audience.ignore(self._socket)
            self._dozes_at, self._wakes_at = float("inf"), now + self.rng.uniform(1, 8)
            self._note("dozes")
        elif now - self._heard > SILENCE and self._wakes_at == float("inf"):
            self._tally["closed by the client: silence"] += 1
            self._note("silence")
            self.hang_up("reset")
            self._come_back(now, 0.1)

    # Connecting

    def _dial(self) -> None:
        is_refused = any(each.refused for each in self.subscriptions.values())
        self._node = self.rng.choice([node for node in self._nodes if node.has_rows] if is_refused else self._nodes)
        wishes = {}
        for name, each in self.subscriptions.items():
            if each.place and not self.follows and self.leaves and self.rng.random() < 0.2:
                each.forget()  # a browser that was reloaded
            wanted = each.copy is None or bool(each.place) and self.rng.random() < 0.3
            wishes[name] = {**({"since": each.place} if each.place else {}), **each.wish(wanted)}
            each.connect(each.place, wanted)
        self._note(
            f"connects to {self._node.name} for "
            + ", ".join(f"{name} {'+'.join(wish) or 'from now'}" for name, wish in wishes.items())
        )
        self._multiplexed = self._asks_for_rows or len(wishes) > 1 or self.rng.random() < 0.15
        if self._multiplexed:
            path = "/ws?cuts=true" if self.wants_cuts else "/ws"
            self._commands = [
                json.dumps({"type": "subscribe", "channel": name, **wish, "ref": name}) for name, wish in wishes.items()
            ]
        else:
            [(name, wish)] = wishes.items()
            query = urllib.parse.urlencode({**wish, **({"snapshot": "true"} if "snapshot" in wish else {})})
            path, self._commands = f"/ws/{name}" + (f"?{query}" if query else ""), []
        self._dozy = self.rng.random() < 0.2
        self._dialled = self._audience.dial(self._node.host, self._node.port, path, self._dozy)

    def _connected(self, now: float) -> None:
        dialled, self._dialled = self._dialled, None
        try:
            self._socket = dialled.result()
            for command in self._commands:
                self._socket.send(command)
        except (OSError, ProtocolError) as error:
            if isinstance(error, Refused) and error.status != "503":
                self._complain(str(error))
            if self._socket:
                self._socket.sock.close()
                self._socket = None
            self._tally["connections refused or broken"] += 1
            self._come_back(now, min(1.0, 0.05 * 2**self._attempts))
            self._attempts += 1
            return
        self._tally["connections"] += 1
        self._attempts = 0
        self._heard = now
        self._audience.listen_to(self, self._socket)
        self.plan_to_leave(now)

    def plan_to_leave(self, now: float) -> None:
        """Decides how this connection will end: after some messages, at once, after a while, or not by its own will."""
        self._leaves_at = self._leaves_after = self._dozes_at = float("inf")
        if not self.leaves:
            return
        way = self.rng.random()
        if way < 0.3:
            self._leaves_after = int(1 + 300 * self.rng.random() ** 2)
        elif way < 0.4:
            self._leaves_at = now + self.rng.uniform(0, 0.05)
        elif way < 0.95:
            self._leaves_at = now + self.rng.expovariate(1 / 6)
        if self._dozy:
            self._dozes_at = now + self.rng.uniform(0, 1)

    def stay(self, now: float) -> None:
        """Does not leave by its own will any more, and hurries where it is away."""
        self._leaves_at = self._leaves_after = self._dozes_at = float("inf")
        if self._wakes_at < float("inf"):
            self._wakes_at = now
        if self._socket is None and self._dialled is None:
            self.due = min(self.due, now)

    def _come_back(self, now: float, after: Any) -> None:
        self.due = now + self.rng.uniform(0, after)

    # Listening

    def read(self) -> None:
        """Takes what has come. A client that leaves in the middle of it forgets the rest."""
        now = time.monotonic()
        self._heard = now
        connection = self._socket
        try:
            texts = connection.feed(connection.sock.recv(1 << 18))
        except OSError:
            texts, connection.closed = [], connection.closed or (1006, "")
        except ProtocolError as error:
            self._complain(str(error))
            texts, connection.closed = [], (1002, "")
        for text in texts:
            try:
                self._hear(json.loads(text))
            except (KeyError, TypeError, ValueError) as error:
                self._complain(f"not understood ({error!r}): {text[:300]!r}")
            self._leaves_after -= 1
            if self._leaves_after <= 0:
                self._leave(now)
                return
            if any(each.astray for each in self.subscriptions.values()):
                self._note("a gap, or no rows: comes back for a snapshot")
                self.hang_up("close")
                self._come_back(now, 0.1)
                return
        if connection.closed:
            code, reason = connection.closed
            self._tally[f"closed by the server: {code}"] += 1
            self._note(f"closed with {code}")
            if code not in EXPECTED_CLOSES:
                self._complain(f"closed with {code}: {reason}")
            self.hang_up("vanish")
            self._come_back(now, 0.3)

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "error":
            if message["code"] == "source_down":
                self._tally["source_down"] += 1
            elif message["code"] == "no_snapshot" and not self._node.has_rows:
                self._note(f"no rows {message.get('ref', '')}")
                self._of(message).refuse()
            elif message["code"] == "unanswered" and self._asks_for_rows:
                self._tally["pages asked for again"] += 1
                each = self._of(message)
                each.ask_again()
                self._ask(each)
            else:
                self._complain(f"an error: {message}")
            return
        # one with a channel is the end of a cut there alone
        if kind == "cut" and "channel" not in message:
            self._cut(message)
            return
        if kind not in ("realtime_update", "subscribed", "heartbeat", "cut", "snapshot", "rows", "gap"):
            return  # "Ignore a type that you do not know"
        name = message["entity_type"] if kind == "realtime_update" else message.get("channel")
        if name is not None:
            concerned = [self.subscriptions[name]]
        elif kind == "heartbeat" and len(self.subscriptions) > 1:
            return  # it does not say of which channel it speaks, and its cursor holds for no other
        else:
            concerned = list(self.subscriptions.values())
        for each in concerned:
            if kind == "gap":
                self._count_gap(each, message["reason"])
            each.take(message)
            self._ask(each)
            if kind == "subscribed":
                self._count_move(each.channel.name, message)
            if kind in ("subscribed", "snapshot", "gap"):
                told = [
                    f"{key} {message[key]}" for key in ("reason", "recovered", "replayed", "last") if key in message
                ]
                self._note(f"{kind} {each.channel.name}: {', '.join(told)}")

    def _of(self, error: dict[str, Any]) -> Any:
        """The subscription whose command an error refuses."""
        ref = error["ref"] if self._multiplexed else next(iter(self.subscriptions))
        return self.subscriptions[ref[0] if isinstance(ref, list) else ref]

    def _ask(self, subscription: Any) -> None:
        """Sends for the next page, where one is wanted."""
        if (command := subscription.next_page()) and self._socket is not None:
            with contextlib.suppress(OSError):  # that it is broken is noticed where it is read
                self._socket.send(json.dumps(command))

    def _cut(self, message: dict[str, Any]) -> None:
        """What was told is the database at one moment, once all channels have joined."""
        for each in self.subscriptions.values():
            if each.joined and "cursor" in message:
                each.take(message)
        if all(each.joined and each.copy is not None for each in self.subscriptions.values()):
            self._tally["cuts compared"] += 1
            for text in disagreements(self.subscriptions["entries"].copy, self.subscriptions["totals"].copy):
                self._complain(f"client {self.number}: at a cut of {self._node.name}, {text}")

    def _count_move(self, channel: str, message: dict[str, Any]) -> None:
        """A cursor of one kind of node was understood by another."""
        before, self._place_of[channel] = self._place_of.get(channel), self._node.kind
        if before and before != self._node.kind and message["recovered"] is True:
            self._tally[f"from {before} to {self._node.kind}"] += 1

    def _count_gap(self, subscription: Any, reason: str) -> None:
        node = self._node
        self._tally[
            ", ".join(
                filter(None, (f"gap: {reason}", node.kind, node.kind and subscription.joined and "in the stream"))
            )
        ] += 1
        if self._audience.excuses_gap and not self._audience.excuses_gap(node.kind, reason, subscription.joined):
            self._complain(
                f"client {self.number}, {subscription.channel.name}: a gap from {node.name}, {reason}, "
                f"{'in the stream' if subscription.joined else f'at {subscription.place}'}"
            )

    # Leaving

    def _leave(self, now: float) -> None:
        way = self.rng.choice(("close", "reset", "vanish"))
        self._tally[f"closed by the client: {way}"] += 1
        self.hang_up(way)
        patience = self.rng.random()
        self._come_back(now, 0.1 if patience < 0.5 else 2 if patience < 0.9 else 8)

    def hang_up(self, way: Any) -> None:
        """`close` with a close frame, `reset` with nothing but an RST, `vanish` as a process ends."""
        connection, self._socket = self._socket, None
        if connection is None:
            return
        self._note(f"hangs up: {way}")
        if self._wakes_at == float("inf"):
            self._audience.ignore(connection)
        self._leaves_at = self._leaves_after = self._dozes_at = self._wakes_at = float("inf")
        try:
            if way == "reset":
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if way == "close":
                connection.close()
            else:
                connection.sock.close()
        except OSError:
            pass

    def _note(self, text: str) -> None:
        last = {name: each.last_id for name, each in self.subscriptions.items()}
        self.journal.append((last, f"{time.monotonic() - self._audience.began:7.2f} s  {text}"))

    def around(self, channel: Any, number: int) -> list[Any]:
        """What happened to this client shortly before and after an id was due on a channel."""
        lines = list(self.journal)
        at = next((at for at, (last, _) in enumerate(lines) if last[channel] >= number), len(lines))
        return [line for _, line in lines[max(0, at - 8) : at + 4]]
