"""What coming back costs: a resume from memory and from the outbox, thousands at once after a restart, a snapshot of a
large table, reading beside a long transaction, and the outbox as it grows and is pruned."""

import argparse
import collections
import contextlib
import gc
import json
import os
import random
import resource
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import cluster as kit
from harness import report
from harness.websocket import Inbox, WebSocket

CHANNEL, LARGE = "reading", "archive"
TABLE = """create table public.{table} (
  id bigint generated always as identity primary key, n bigint not null, sensor text not null, value double precision not null,
  unit text not null, note text not null, valid boolean not null)"""
COLUMNS = "n, sensor, value, unit, note, valid"
ROW = "'ward 3, bed 12', 37.2, 'degrees Celsius', 'measured every minute; nothing unusual since the last change of the battery', true"
NO_MEMORY = ("--history-bytes", "65536")  # the least that rowcast takes
# what the server's log knows of an application's sessions and statements; %a is the application's name
LOGGING = {"log_connections": "on", "log_line_prefix": "%a|"}
AGE_OPEN = "update rowcast.segment set opened_at = opened_at - interval '13 hours'"
AGE_CLOSED = "update rowcast.segment set closed_at = closed_at - interval '25 hours'"


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--missed", type=int, default=10_000, help="changes that one client missed (default: 10000)")
    parser.add_argument("--clients", type=int, default=2000, help="that come back at once (default: 2000)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the snapshot (default: 1000000)")
    parser.add_argument(
        "--behind", type=int, default=200_000, help="changes behind the open transaction (default: 200000)"
    )
    parser.add_argument("--inserts", type=int, default=200, help="one at a time, beside it (default: 200)")
    parser.add_argument("--pruned", type=int, default=200_000, help="changes of the pruned segment (default: 200000)")
    parser.add_argument("--seconds", type=int, default=5, help="the live client listens before the prune (default: 5)")
    parser.add_argument(
        "--parts",
        type=int,
        nargs="+",
        choices=range(1, len(PARTS) + 1),
        default=range(1, len(PARTS) + 1),
        metavar="N",
        help="only these of the five tables",
    )
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of everything: to see that it works")
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        parser.set_defaults(
            rounds=1, missed=1000, clients=200, rows=100_000, behind=20_000, inserts=50, pruned=20_000, seconds=2
        )
        arguments = parser.parse_args()

    gc.disable()  # no cycles are made here, and a collection in the middle would look like a slow server
    load = report.load_average()
    cluster = kit.Cluster(stack, arguments, **LOGGING)
    cluster.rowcast("migrate")
    cluster.psql(TABLE.format(table=CHANNEL))
    cluster.rowcast("watch", f"public.{CHANNEL}")
    tables, faults = [], 0
    for number in sorted(set(arguments.parts)):
        text, wrong = PARTS[number - 1](cluster, arguments)
        tables.append(text)
        faults += wrong
    print("\n\n".join(tables))
    print(
        f"\n- {'Every client got what it missed, once.' if not faults else f'{faults:,} FAULTS: see stderr.'} "
        f"Each figure is the median of {arguments.rounds} rounds (least-greatest)."
    )
    print(report.origin(cluster, load))
    return 1 if faults else 0


# 1


def one_resume(cluster: kit.Cluster, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """One client comes back after many changes, to a server that has them in memory and to one that has not."""
    found: dict[Any, Any] = {}
    for name, flags in (("memory", ()), ("outbox", NO_MEMORY)):
        cluster.clear_outbox()
        with serving(cluster, *flags) as relay:
            with listening(relay, f"/ws/{CHANNEL}") as inbox:
                place = until_subscribed(inbox, 1)[-1][2]["cursor"]
            ids = write(cluster, arguments.missed, 1)
            relay.wait_until_asleep()
            for _ in range(arguments.rounds):
                with counted(cluster) as count:
                    began = time.time_ns()
                    with listening(relay, f"/ws/{CHANNEL}?since={place}") as inbox:
                        messages = until_subscribed(inbox, 1)
                line = {
                    "ms": (messages[-1][1] - began) / 1e6,
                    **count(),
                    "faults": faults_of([text for _, _, text in messages], ids),
                }
                found.setdefault(name, []).append(line)
                say(f"resume from {name}", line)
    head = [
        f"1. {arguments.missed:,} changes missed by one client",
        "connect → `subscribed`, ms",
        "sessions for it",
        "statements in them",
        "other statements of the relay meanwhile",
        "lost, twice or refused",
    ]
    rows = [
        [
            f"from {name}",
            middle(lines, "ms", "{:,.0f}"),
            middle(lines, "sessions"),
            middle(lines, "statements"),
            middle(lines, "others"),
            total(lines, "faults"),
        ]
        for name, lines in found.items()
    ]
    return report.table(head, rows), sum(total(lines, "faults") for lines in found.values())


# 2


def storm(cluster: kit.Cluster, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """All clients come back at once to a server that was started again, each with the cursor of its own last socket."""
    clients = as_many_as_files_allow(arguments.clients)
    found: dict[Any, Any] = {}
    for name, flags in (("memory", ()), ("outbox", NO_MEMORY)):
        for _ in range(arguments.rounds):
            cluster.clear_outbox()
            write(
                cluster, 2000, 100
            )  # a server that starts keeps the newest changes: 64 KiB must be too little for them
            with serving(cluster, *flags) as relay, listening(relay, *[f"/ws/{CHANNEL}"] * clients) as inbox:
                places = [message["cursor"] for _, _, message in until_subscribed(inbox, clients)]
            ids = write(cluster, 100, 1)
            with (
                serving(cluster, *flags) as relay,
                listening(relay, *["/ws"] * clients) as inbox,
                counted(cluster) as count,
            ):
                relay.wait_until_asleep()
                line, messages = storm_once(relay, inbox, places)
                line.update(count())
            line["all"] = line["statements"] + line["others"]
            line["faults"] = sum(faults_of(texts, ids) for texts in messages.values()) + clients - len(messages)
            found.setdefault(name, []).append(line)
            say(f"{clients} resumes from {name}", line)
    head = [
        f"2. {clients:,} clients at once after a restart, 100 changes missed by each",
        "first `subscribe` → half are `subscribed`, s",
        "→ all are, s",
        "sessions for it",
        "statements of the relay",
        "processor time of rowcast, s",
        "lost, twice or refused",
    ]
    rows = [
        [
            f"from {name}",
            middle(lines, "half", "{:.2f}"),
            middle(lines, "last", "{:.2f}"),
            middle(lines, "sessions"),
            middle(lines, "all"),
            middle(lines, "cpu", "{:.2f}"),
            total(lines, "faults"),
        ]
        for name, lines in found.items()
    ]
    if clients < arguments.clients:
        rows.append([f"({arguments.clients:,} were asked for; `ulimit -n` allows {clients:,})", "", "", "", "", "", ""])
    return report.table(head, rows), sum(total(lines, "faults") for lines in found.values())


def storm_once(relay: kit.Relay, inbox: Any, places: Any) -> tuple[Any, ...]:
    """The sockets are open already: making them would measure this program. What they say is looked at afterwards."""
    cpu, own = relay.cpu_seconds(), time.process_time()
    began, now = time.time_ns(), time.monotonic()
    for opened, place in zip(inbox.sockets, places):
        opened.send(json.dumps({"type": "subscribe", "channel": CHANNEL, "since": place}))
    sent = time.time_ns()
    seen = until_subscribed(inbox, len(places), 300, decode=False)
    busy = (time.process_time() - own) / (time.monotonic() - now)
    cpu = relay.cpu_seconds() - cpu if cpu is not None else None
    ends = sorted(stamp for _, stamp, text in seen if is_subscribed(text))
    kit.note(f"asking took {(sent - began) / 1e9:.2f} s; the reading end was busy {busy:.0%} of the time")
    messages = collections.defaultdict(list)
    for owner, _, text in seen:
        messages[owner].append(json.loads(text))
    return {"half": (ends[len(ends) // 2] - began) / 1e9, "last": (ends[-1] - began) / 1e9, "cpu": cpu}, messages


def as_many_as_files_allow(clients: Any) -> Any:
    """A socket is a file, here and in rowcast, which inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        clients = min(clients, hard - 100)
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (clients + 100, hard))
    return clients


# 3


def snapshot(cluster: kit.Cluster, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """The current rows of a large table, alone and beside a client that asks for them and reads nothing."""
    cluster.psql(
        TABLE.format(table=LARGE),
        f"insert into public.{LARGE} ({COLUMNS}) select n, {ROW} from generate_series(1, {arguments.rows}) n",
        f"vacuum analyze public.{LARGE}",
    )
    cluster.rowcast("watch", f"public.{LARGE}")
    path = f"/ws/{LARGE}?snapshot=true"
    found: dict[Any, Any] = {}
    for _ in range(arguments.rounds):
        for name in ("alone", "beside a client that reads nothing"):
            with serving(cluster) as relay, contextlib.ExitStack() as idle:
                relay.wait_until_asleep()
                before = relay.peak_memory()
                if name != "alone":
                    lazy = WebSocket(relay.host, relay.port, path)
                    idle.callback(lazy.sock.close)
                    if not select.select([lazy.sock], [], [], 10)[0]:
                        raise kit.Failure("the snapshot of the client that reads nothing did not begin within 10 s")
                began = time.time_ns()
                with listening(relay, path) as inbox:
                    seen = until_subscribed(inbox, 1, 120, decode=False)
                seconds = (seen[-1][1] - began) / 1e9
                after = relay.peak_memory()
                line = {
                    "seconds": seconds,
                    "rows": arguments.rows / seconds,
                    "mb": sum(len(text) for _, _, text in seen) / 1e6,
                    "before": before and before / 2**20,
                    "after": after and after / 2**20,
                }
            got = collections.Counter(row["id"] for _, _, text in seen for row in json.loads(text).get("rows", ()))
            line["faults"] = abs(arguments.rows - len(got)) + sum(got.values()) - len(got)
            found.setdefault(name, []).append(line)
            say(f"snapshot {name}", line)
    head = [
        f"3. snapshot of {arguments.rows:,} rows, {found['alone'][0]['mb']:,.0f} MB of messages",
        "connect → `subscribed`, s",
        "rows/s",
        "greatest memory of rowcast before, MiB",
        "after, MiB",
        "rows lost or twice",
    ]
    rows = [
        [
            name,
            middle(lines, "seconds", "{:.2f}"),
            middle(lines, "rows"),
            middle(lines, "before", "{:.1f}"),
            middle(lines, "after", "{:.1f}"),
            total(lines, "faults"),
        ]
        for name, lines in found.items()
    ]
    return report.table(head, rows), sum(total(lines, "faults") for lines in found.values())


# 4


def beside_a_long_transaction(cluster: kit.Cluster, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """One transaction has written and stays open, many changes are committed behind it: what a read costs then."""
    found: dict[Any, Any] = {}
    for _ in range(arguments.rounds):
        cluster.clear_outbox()
        with serving(cluster) as relay, Psql(cluster) as long, Psql(cluster) as writer:
            long.ask(f"begin; insert into public.{CHANNEL} ({COLUMNS}) values (-1, {ROW});")
            write(cluster, arguments.behind, 100)
            with listening(relay, f"/ws/{CHANNEL}") as inbox:
                for name in ("it is open", "it has ended"):
                    reads = relay.status()["source"]["reads"]
                    line = distribution(one_at_a_time(inbox, writer, arguments.inserts))
                    line["reads"] = relay.status()["source"]["reads"] - reads
                    line["faults"] = 0
                    found.setdefault(name, []).append(line)
                    say(f"inserts while {name}", line)
                    if name == "it is open":
                        long.ask("commit;")
                        line["faults"] = (
                            0 if inbox.wait_for(lambda seen: any(is_insert(text, -1) for _, _, text in seen), 10) else 1
                        )
                        relay.wait_until_asleep()
    head = [
        f"4. {arguments.inserts:,} single INSERTs after {arguments.behind:,} changes behind a transaction that has written",
        "statement sent → frame, p50 ms",
        "p99 ms",
        "greatest, ms",
        "reads of the outbox meanwhile",
        "its own change lost",
    ]
    rows = [
        [
            name,
            *(middle(lines, key, "{:.2f}") for key in ("p50", "p99", "max")),
            middle(lines, "reads"),
            total(lines, "faults"),
        ]
        for name, lines in found.items()
    ]
    return report.table(head, rows), sum(total(lines, "faults") for lines in found.values())


def one_at_a_time(inbox: Any, writer: Any, count: int) -> Any:
    """Nanoseconds from just before the statement is sent until the frame is read. The first ones do not count: the
    frames of what was written before may still be on their way."""
    delays = []
    for n in range(1, count + 11):
        time.sleep(random.uniform(0.015, 0.040))
        sent = time.time_ns()
        writer.send(f"insert into public.{CHANNEL} ({COLUMNS}) values ({n}, {ROW});")
        stamp = next((stamp for _, stamp, text in arriving(inbox, 60) if is_insert(text, n)), None)
        writer.answer()
        if stamp is None:
            raise kit.Failure(f"insert {n}: no frame within 60 s")
        if n > 10:
            delays.append(stamp - sent)
    return delays


def is_insert(text: bytes, n: int) -> bool:
    """Whether a message is the change with this n."""
    return b'"n":%d,' % n in text


def distribution(nanoseconds: Any) -> dict[Any, Any]:
    ordered = sorted(value / 1e6 for value in nanoseconds)
    return {name: report.percentile(ordered, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


# 5


def prune(cluster: kit.Cluster, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """A segment fills, grows old and is emptied, while one client listens to a writer who never stops."""
    lines = []
    for _ in range(arguments.rounds):
        cluster.clear_outbox()
        with serving(cluster) as relay:
            write(cluster, arguments.pruned, 100)
            size, index, count, row = map(
                float,
                cluster.psql(
                    "select sum(pg_total_relation_size(s)), sum(pg_indexes_size(s)) from unnest(array['rowcast.outbox_0', 'rowcast.outbox_1', "
                    "'rowcast.outbox_2']::regclass[]) s",
                    "select count(*), avg(octet_length(new::text)) from rowcast.outbox where op = 'I'",
                )
                .replace("\n", "|")
                .split("|"),
            )
            turn_segments(cluster)
            line = {
                "bytes": size / count,
                "index": index / count,
                "row": row,
                **listen_to_prune(cluster, relay, arguments),
            }
        lines.append(line)
        say("prune", line)
    head = ["5. outbox", "result"]
    rows = [
        ["bytes per change in the outbox", middle(lines, "bytes")],
        ["… of that its index", middle(lines, "index")],
        ["… and the JSON of the row", middle(lines, "row")],
        [f"`select rowcast.prune()` that empties {arguments.pruned:,} changes, ms", middle(lines, "ms", "{:.1f}")],
        ["… calls until no reader was in its way", middle(lines, "calls")],
        ["50 transactions/s: longest pause between two frames before, ms", middle(lines, "quiet", "{:.1f}")],
        ["… from the prune until a second after, ms", middle(lines, "pause", "{:.1f}")],
        ["… lost or twice", total(lines, "faults")],
    ]
    return report.table(head, rows), total(lines, "faults")


def turn_segments(cluster: kit.Cluster) -> None:
    """New changes go to the next segment and the full one is closed, as after half a day."""
    for expected, statement in (
        ("takes new changes", f"{AGE_OPEN}; select rowcast.prune()"),
        ("is closed", "select rowcast.prune()"),
    ):
        prune_until(expected, lambda statement=statement: cluster.psql(statement))


def prune_until(expected: Any, ask: Any, wait: Any = time.sleep) -> tuple[Any, ...]:
    """Calls prune until it did what is expected; it waits for no lock. The number of calls, and the last one's answer."""
    for calls in range(1, 101):
        done = ask()
        if expected in done:
            return calls, done
        if "in use" not in done:
            raise kit.Failure(
                f"prune said {done!r} and should have said that a segment {expected}; was another prune faster?"
            )
        wait(0.1)
    raise kit.Failure(f"100 calls of prune, and no segment {expected}")


def listen_to_prune(cluster: kit.Cluster, relay: kit.Relay, arguments: argparse.Namespace) -> dict[Any, Any]:
    """An INSERT each 20 ms by the clock, and one client that gets them; in the middle the prune, on a session of its own."""
    inserted = f"insert into public.{CHANNEL} ({COLUMNS}) values (0, {ROW});"
    with Psql(cluster) as writer, Psql(cluster) as pruner, listening(relay, f"/ws/{CHANNEL}") as inbox:
        until_subscribed(inbox, 1)
        first = int(cluster.psql("select last_value from rowcast.outbox_id"))
        due = time.monotonic()

        def go_on(seconds: float, until: Any = lambda: False) -> None:
            """Writes on schedule and reads what comes, for a while."""
            nonlocal due
            end = time.monotonic() + seconds
            while time.monotonic() < end and not until():
                if time.monotonic() >= due:
                    writer.send(inserted)
                    due += 0.020
                inbox.collect(max(0, min(due, end) - time.monotonic()))
                writer.discard()

        def ask() -> Any:
            pruner.send(f"{AGE_CLOSED};\n\\timing on\nselect rowcast.prune();\n\\timing off")
            go_on(60, until=lambda: pruner.is_ready())
            return pruner.answer()

        go_on(1)  # the first ones are no steady stream
        quiet = time.time_ns()
        go_on(arguments.seconds)
        began = time.time_ns()
        calls, done = prune_until("is emptied", ask, go_on)
        go_on(1)
        ended = time.time_ns()
        writer.ask("select 1;")
        written = set(map(int, cluster.psql(f"select id from rowcast.outbox where op = 'I' and id > {first}").split()))
        stamps, ids = [], []
        for _, stamp, text in arriving(inbox, 10):
            message = json.loads(text)
            if message["type"] != "realtime_update":
                raise kit.Failure(f"unexpected message: {text.decode()}")
            ids.append(message["id"])
            stamps.append(stamp)
            if written <= set(ids):
                break
    milliseconds = float(done.partition("Time: ")[2].split()[0])
    return {
        "ms": milliseconds,
        "calls": calls,
        "quiet": longest_pause(stamps, quiet, began, inside=True),
        "pause": longest_pause(stamps, began, ended),
        "faults": len(written - set(ids)) + len(ids) - len(set(ids)),
    }


def longest_pause(stamps: Any, since: Any, until: Any, inside: bool = False) -> Any:
    """Milliseconds between two frames. A pause of which only a part lies between the two moments counts, unless it must
    lie inside."""
    pauses = [(earlier, later) for earlier, later in zip(stamps, stamps[1:]) if later > since and earlier < until]
    return max(
        (later - earlier) / 1e6 for earlier, later in pauses if not inside or since <= earlier and later <= until
    )


# what the parts share


@contextlib.contextmanager
def serving(cluster: kit.Cluster, *flags: Any) -> Iterator[Any]:
    """A relay; what it complained about is shown when it ends."""
    with kit.Relay(cluster, *flags) as relay:
        yield relay
        if relay.warnings():
            kit.note(f"warning: rowcast logged:\n{relay.warnings()}")


@contextlib.contextmanager
def listening(relay: kit.Relay, *paths: Any) -> Iterator[Any]:
    """An inbox with a socket on each path. They are gone when it ends."""
    inbox = Inbox()
    try:
        for path in paths:
            inbox.open(relay.host, relay.port, path)
        yield inbox
    finally:
        inbox.close()


@contextlib.contextmanager
def counted(cluster: kit.Cluster) -> Iterator[Any]:
    """Has the server's log say every statement; yields what counts the relay's ones so far."""
    log = cluster.dir / "postgres.log"

    def switch(how: Any) -> None:
        cluster.psql(f"alter system {how}", "select pg_reload_conf()")
        time.sleep(0.2)  # until every session has heard of it

    switch("set log_statement = 'all'")
    start = log.stat().st_size

    def count() -> dict[Any, Any]:
        with open(log, "rb") as file:
            file.seek(start)
            lines = file.read().decode("utf-8", "replace").splitlines()
        statements = [
            line.partition("|")[0] for line in lines if "|LOG:  statement: " in line or "|LOG:  execute " in line
        ]
        return {
            "sessions": sum(
                "connection authorized:" in line and "application_name=rowcast replay" in line for line in lines
            ),
            "statements": sum(name.startswith("rowcast replay") for name in statements),
            "others": sum(name.startswith("rowcast") and not name.startswith("rowcast replay") for name in statements),
        }

    try:
        yield count
    finally:
        switch("reset log_statement")


def write(cluster: kit.Cluster, changes: Any, rows: Any) -> Any:
    """Changes in transactions of so many rows each, four at a time; returns their ids."""
    clients = 4 if changes % (4 * rows) == 0 else 1
    if changes % (clients * rows):
        raise kit.Failure(f"{changes} changes are no whole number of transactions of {rows}")
    first = int(cluster.psql("select last_value from rowcast.outbox_id"))
    script = cluster.file(
        "write.sql", f"insert into public.{CHANNEL} ({COLUMNS}) select 0, {ROW} from generate_series(1, {rows});\n"
    )
    cluster.pgbench("-n", "-M", "prepared", "-c", clients, "-t", changes // clients // rows, "-f", script)
    ids = list(
        map(int, cluster.psql(f"select id from rowcast.outbox where op = 'I' and id > {first} order by id").split())
    )
    if len(ids) != changes:
        raise kit.Failure(f"the outbox holds {len(ids)} of {changes} changes")
    return ids


def is_subscribed(text: bytes) -> bool:
    return b'"type":"subscribed"' in text


def arriving(inbox: Any, seconds: float) -> Iterator[Any]:
    """(socket, stamp, text) of what comes, until nothing came for so many seconds."""
    while True:
        yield from inbox.messages()
        check_open(inbox)
        if not inbox.collect(seconds):
            return


def check_open(inbox: Any) -> None:
    """A server that ended a socket has not sent what is waited for."""
    closed = [opened.closed for opened in inbox.sockets if opened.closed]
    if closed:
        raise kit.Failure(f"{len(closed)} sockets were closed, the first with {closed[0]}")


def until_subscribed(inbox: Any, count: int, seconds: float = 60, decode: bool = True) -> Any:
    """What came until so many sockets were told `subscribed`; as (socket, stamp, message)."""
    deadline, seen, subscribed = time.monotonic() + seconds, [], 0
    while subscribed < count:
        if not inbox.collect(max(0, deadline - time.monotonic())):
            raise kit.Failure(f"{subscribed} of {count} were subscribed within {seconds} s")
        while inbox.collect(0):  # a stamp must not wait until something else is looked at
            pass
        for message in inbox.messages():
            seen.append(message)
            subscribed += is_subscribed(message[2])
        check_open(inbox)
    return [(owner, stamp, json.loads(text)) for owner, stamp, text in seen] if decode else seen


def faults_of(messages: Any, ids: Any) -> Any:
    """How much of what one client got is not exactly these changes, once, and `subscribed` with recovered."""
    got = [message["id"] for message in messages if message["type"] == "realtime_update"]
    lost, twice = len(set(ids) - set(got)), len(got) - len(set(got) & set(ids))
    refused = [
        message
        for message in messages
        if message["type"] not in ("realtime_update", "subscribed", "heartbeat") or message.get("recovered") is False
    ]
    if lost or twice or refused:
        kit.note(f"warning: a client lost {lost}, got {twice} too many, and was told {refused[:3]}")
    return lost + twice + len(refused)


class Psql:
    """A psql that is held open: a session that stays, and no start of a program in what is measured."""

    def __init__(self, cluster: kit.Cluster) -> None:
        self._process = subprocess.Popen(
            [cluster.psql_program, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"],
            env=cluster.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._read = b""
        self.ask("select 1;")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def send(self, statements: Any) -> None:
        """Sends statements and does not wait."""
        os.write(self._process.stdin.fileno(), f"{statements}\n\\echo done\n".encode())

    def is_ready(self) -> bool:
        """Whether the answer to the oldest `send` is there."""
        if b"done\n" not in self._read and select.select([self._process.stdout], [], [], 0)[0]:
            self._take()
        return b"done\n" in self._read

    def answer(self) -> str:
        """What the oldest statements sent printed."""
        while b"done\n" not in self._read:
            if not select.select([self._process.stdout], [], [], 60)[0]:
                raise kit.Failure("psql did not answer within 60 s")
            self._take()
        text, _, self._read = self._read.partition(b"done\n")
        return text.decode()

    def discard(self) -> None:
        """Forgets the answers that are there."""
        while self.is_ready():
            self.answer()

    def ask(self, statements: Any) -> Any:
        """Sends statements; returns what they print, once they are done."""
        self.send(statements)
        return self.answer()

    def _take(self) -> None:
        data = os.read(self._process.stdout.fileno(), 65536)
        if not data:
            raise kit.Failure("psql ended: a statement failed, see above")
        self._read += data


def greatest(cluster: kit.Cluster, seconds: float, look: Callable[[Psql], float]) -> Callable[[], float]:
    """Looks again and again, on a session of its own; what is returned ends it and tells the greatest figure."""
    over, most = threading.Event(), [0.0]

    def watch() -> None:
        with Psql(cluster) as psql:
            while not over.wait(seconds):
                most[0] = max(most[0], look(psql))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def end() -> float:
        over.set()
        thread.join(10)
        return most[0]

    return end


def middle(lines: Any, key: Any, form: str = "{:,.0f}") -> Any:
    """Median and spread of a figure over the rounds; `?` where the system does not tell."""
    values = [line[key] for line in lines]
    return "?" if None in values else report.spread(values, form.format)


def total(lines: Any, key: Any) -> Any:
    return sum(line[key] for line in lines)


def say(name: str, line: Any) -> None:
    kit.note(
        f"{name}: "
        + ", ".join(f"{key} {'?' if value is None else format(value, '.2f')}" for key, value in line.items())
    )


PARTS = (one_resume, storm, snapshot, beside_a_long_transaction, prune)

if __name__ == "__main__":
    kit.main(main)
