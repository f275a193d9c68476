"""Whether a subscriber was told the truth: what it heard, against the outbox as it is in the end.

Owns the rules and the choice of cursors. Pure but for the one question to the database.
"""

import base64
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .streams import in_time

SHOWN = 4  # of each sort of mistake, so many changes


class Truth:
    """The outbox's rows of the channel, when nobody writes any more."""

    def __init__(self, server: Any, base: Any) -> None:
        text = server.psql(f"""select id, xid, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), new->>'k', new->>'v'
            from rowcast.outbox where id > {base} and op in ('I', 'U') order by id""")
        rows = (line.split("|") for line in text.splitlines())
        self.changes = [(int(number), tx, at, int(k), int(v)) for number, tx, at, k, v in rows]
        self._known = set(self.changes)

    def since(self, base: Any) -> list[Any]:
        return [change for change in self.changes if change[0] > base]

    def lost(self, changes: Any) -> list[Any]:
        """Those that are not in the outbox: a crash took them away."""
        return [change for change in changes if change not in self._known]


@dataclass
class Verdict:
    """What became of a subscriber; wrong where there are mistakes."""

    recovered: bool  # it went on as if nothing had happened
    gaps: list
    mistakes: list = field(default_factory=list)


def judge(stream: Any, truth: Any, last: Any) -> Any:
    """The verdict on a stream that was live through the fault, or resumed after it. It has heard what it will hear."""
    resumed = stream.place is not None
    honoured = not resumed or stream.told is not None and stream.told["recovered"]
    verdict = Verdict(honoured and not stream.gaps, stream.gaps)
    say = verdict.mistakes.append
    if stream.told is None:
        say(f"no answer: {stream.ended or 'the socket is open'}")
        return verdict
    if not stream.has(last):
        say(f"the last change never came (the socket is {stream.ended or 'open'})")
    if stream.gaps:
        return verdict  # it knows that it has to load its state again
    if not honoured:
        say("neither recovered nor a gap")
    if resumed and stream.told["replayed"] != stream.came_before:
        say(f"{stream.came_before} changes were replayed, and it was told {stream.told['replayed']}")
    compare(stream, truth, say)
    return verdict


def compare(stream: Any, truth: Any, say: Any) -> None:
    """Everything that the subscriber was ever told must be in the outbox, all of it once, each row's versions in order."""
    delivered = stream.place.count if stream.place else 0
    wanted = truth.since(stream.base)
    for what, changes in (
        ("delivered before and lost", truth.lost(stream.changes[:delivered])),
        ("delivered and not in the outbox", truth.lost(stream.changes[delivered:])),
        ("in the outbox and not delivered", sorted(set(wanted).difference(stream.changes))),
        ("delivered more than once", [change for change, count in Counter(stream.changes).items() if count > 1]),
        ("behind a later version of its row", disordered(stream.changes)),
    ):
        if changes:
            say(f"{len(changes)} of {len(wanted)} {what}: {changes[:SHOWN]}")


def disordered(changes: Any) -> Any:
    newest: dict[Any, Any] = {}
    found = []
    for change in changes:
        _, _, _, k, v = change
        if v < newest.get(k, 0):
            found.append(change)
        newest[k] = v
    return found


def choose(rng: random.Random, streams: Any, truth: Any, bound: Any) -> list[Any]:
    """Some 30 places to resume from: the newest, some of any age, those on the edge: around the first change that was lost, and
    around the position in the log up to which cursors are said to be good; and of `subscribed` and heartbeats."""
    places = in_time(streams)
    chosen = places[-20:] + rng.sample(places[:-20], min(10, len(places[:-20])))
    between = [place for place in places if place.message != "realtime_update"]
    chosen += rng.sample(between, min(4, len(between)))
    good = [position(place.cursor) <= bound for place in places]
    edge = good.index(False) if False in good else len(places)
    chosen += places[max(0, edge - 4) : edge + 2]
    for stream in streams:
        lost = truth.lost(stream.changes)
        if lost:
            first = stream.changes.index(lost[0])
            chosen += [place for place in stream.places if first - 1 <= place.count <= first + 1][:4]
    return list(dict((id(place), place) for place in chosen).values())


# Cursors; the grammar is in docs/reference/protocol.md ---------------------------------------------------------------------


def decode(token: str) -> str:
    """A cursor as people read it."""
    incarnation, lsn, data, at, number = fields(token)
    parts = [f"life {incarnation >> 16} ({incarnation & 0xFFFF:04x})", f"lsn {lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"]
    while at < len(data):
        snapshot, at = read_snapshot(data, at)
        parts.append(snapshot)
    return ", ".join(parts + ([f"id {int(number[1:], 36)}"] if number else []))


def position(token: str) -> Any:
    """The position in the log that a cursor names."""
    return fields(token)[1]


def fields(token: str) -> tuple[Any, ...]:
    """Life, position, and where the snapshots lie in which bytes; the id behind them."""
    text, _, number = token[1:].partition(".")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    length, at = varint(data, 0)
    data = data[: at + length]  # without the seal
    incarnation, at = varint(data, at + 8)
    lsn, at = varint(data, at)
    return incarnation, lsn, data, at, number


def read_snapshot(data: Any, at: float) -> tuple[Any, ...]:
    xmax, at = varint(data, at)
    width, at = varint(data, at)
    count, at = varint(data, at)
    running, xid = [], xmax - width
    for _ in range(count):
        step, at = varint(data, at)
        xid += step
        running.append(str(xid))
    return f"{xmax - width}:{xmax}:{','.join(running)}", at


def varint(data: Any, at: float) -> tuple[Any, ...]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
