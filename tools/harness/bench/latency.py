"""How long a change takes from the writer to a socket: one insert at a time while the relay sleeps, and 200
transactions a second with 100 sockets. Counts what was lost or came twice."""

import argparse
import contextlib
import gc
import json
import os
import random
import select
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from harness import cluster as kit
from harness import report
from harness.websocket import Inbox

# sent: the database's clock as the INSERT is evaluated, before its commit; the same clock as ours on one machine
TABLE = """create table public.reading (
  id bigint generated always as identity primary key, n bigint not null, sent numeric(20,6), sensor text not null,
  value double precision not null, unit text not null, note text not null, valid boolean not null)"""
INSERT = (
    "insert into public.reading (n, sent, sensor, value, unit, note, valid) values ({n}, extract(epoch from clock_timestamp()), "
    "'ward 3, bed 12', 37.2, 'degrees Celsius', 'measured every minute; nothing unusual since the last change of the battery', true);"
)
CHANNEL = "reading"
WARM_UP = 20


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inserts", type=int, default=1000, help="one at a time (default: 1000)")
    parser.add_argument("--rate", type=int, default=200, help="transactions a second of the second part (default: 200)")
    parser.add_argument("--seconds", type=int, default=20, help="of the second part (default: 20)")
    parser.add_argument("--sockets", type=int, default=100, help="in the second part (default: 100)")
    parser.add_argument("--quick", action="store_true", help="one round, 100 inserts, 3 s: to see that it works")
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        parser.set_defaults(rounds=1, inserts=100, seconds=3)
        arguments = parser.parse_args()

    gc.disable()  # no cycles are made here, and a collection in the middle would look like a slow delivery
    load = report.load_average()
    cluster = kit.Cluster(stack, arguments)
    cluster.rowcast("migrate")
    cluster.psql(TABLE)
    cluster.rowcast("watch", "public.reading")
    results: dict[Any, Any] = {}
    for number in range(arguments.rounds):
        with kit.Relay(cluster) as relay:
            for name, figures in [*one_at_a_time(cluster, relay, arguments), *at_a_rate(cluster, relay, arguments)]:
                results.setdefault(name, []).append(figures)
                kit.note(
                    f"round {number + 1}/{arguments.rounds}  {name}: "
                    + ", ".join(f"{k} {v:.2f}" for k, v in figures.items())
                )
            if relay.warnings():
                kit.note(f"warning: rowcast logged:\n{relay.warnings()}")
    print_results(cluster, results, arguments, load)
    return (
        1
        if any(figures.get("lost") or figures.get("twice") for rounds in results.values() for figures in rounds)
        else 0
    )


def subscribe(inbox: Any, relay: kit.Relay, count: int) -> None:
    """Opens sockets; every one of them was told that capture is live for it."""
    mine = [inbox.open(relay.host, relay.port, f"/ws/{CHANNEL}") for _ in range(count)]
    seen = inbox.wait_for(lambda seen: len(seen) >= count, 10)
    kinds = {json.loads(text)["type"] for _, _, text in seen or []}
    if kinds != {"subscribed"}:
        raise kit.Failure(
            f"expected {count} times subscribed within 10 s, got {kinds} {[each.closed for each in mine if each.closed]}"
        )


def updates(inbox: Any, limit: Any = None) -> Iterator[Any]:
    """(socket, stamp, message) of every realtime_update that was read."""
    for owner, stamp, text in inbox.messages(limit):
        message = json.loads(text)
        if message["type"] == "realtime_update":
            yield owner, stamp, message
        elif message["type"] != "heartbeat":
            raise kit.Failure(f"unexpected message: {text.decode()}")


def one_at_a_time(cluster: kit.Cluster, relay: kit.Relay, arguments: argparse.Namespace) -> list[Any]:
    """The next insert leaves when the frame of the last one is there, and 15 to 40 ms have passed: the relay sleeps."""
    inbox = Inbox()
    psql = subprocess.Popen(
        [cluster.psql_program, "-X", "-q", "-A", "-t"], env=cluster.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        subscribe(inbox, relay, 1)
        relay.wait_until_asleep()
        before = relay.source()
        answers, frames, modes = [], [], []
        for n in range(WARM_UP + arguments.inserts):
            time.sleep(random.uniform(0.015, 0.040))
            if n % 100 == 0:
                modes.append(relay.source()["mode"])
                time.sleep(0.020)
            answer, frame = insert_and_wait(psql, inbox, n)
            if n >= WARM_UP:
                answers.append(answer)
                frames.append(frame)
        after = relay.source()
    finally:
        psql.stdin.close()
        psql.wait(10)
        psql.stdout.close()
        inbox.close()
    reads = after["found_by_safety_read"] - before["found_by_safety_read"]
    kit.note(
        f"relay asleep in {modes.count('asleep')} of {len(modes)} looks; changes first seen by the safety read: {reads}"
    )
    if set(modes) != {"asleep"}:
        kit.note(f"warning: the relay did not sleep all the time: {modes}")
    return [
        ("one insert at a time: statement sent → frame", distribution(frames)),
        ("… statement sent → answer to the writer: it is committed", distribution(answers)),
        ("… from that answer → frame", distribution([frame - answer for answer, frame in zip(answers, frames)])),
    ]


def insert_and_wait(psql: Any, inbox: Any, n: Any) -> tuple[Any, ...]:
    """Nanoseconds from just before the statement is sent until psql has its answer, and until the frame is read."""
    answer = frame = None
    watched = [psql.stdout, *(each.sock for each in inbox.sockets)]
    sent = time.time_ns()
    os.write(psql.stdin.fileno(), f"{INSERT.format(n=n)}\n\\echo done\n".encode())
    deadline = time.monotonic() + 10
    while answer is None or frame is None:
        ready = select.select(watched, [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            raise kit.Failure(f"insert {n}: no {'answer from psql' if answer is None else 'frame'} within 10 s")
        if inbox.sockets[0].sock in ready:
            inbox.collect(0)
        if psql.stdout in ready:
            answer = time.time_ns() - sent
            if os.read(psql.stdout.fileno(), 4096) != b"done\n":
                raise kit.Failure("psql ended or said something else than done")
        for _owner, stamp, message in updates(inbox):
            if frame is not None or message["data"]["n"] != n:
                raise kit.Failure(f"insert {n}: a frame of insert {message['data']['n']} came")
            frame = stamp - sent
        if inbox.sockets[0].closed:
            raise kit.Failure(f"the socket was closed: {inbox.sockets[0].closed}")
    return answer, frame


def at_a_rate(cluster: kit.Cluster, relay: kit.Relay, arguments: argparse.Namespace) -> list[Any]:
    """Open loop: pgbench starts transactions by the clock, whether or not the last ones were delivered."""
    script = cluster.file("insert.sql", f"\\set n random(1, 1000000)\n{INSERT.format(n=':n')}\n")
    first = int(cluster.psql("select last_value from rowcast.outbox_id"))
    inbox = Inbox()
    pgbench = None
    delays: list[float] = []
    got: dict[Any, list[int]] = {}
    try:
        subscribe(inbox, relay, arguments.sockets)
        got = {owner: [] for owner in inbox.sockets}

        def look(limit: Any = None) -> bool:
            before = len(delays)
            for owner, stamp, message in updates(inbox, limit):
                delays.append(stamp - round(message["data"]["sent"] * 1e6) * 1000)
                got[owner].append(message["id"])
            return len(delays) > before

        cpu, own, began = relay.cpu_seconds(), time.process_time(), time.monotonic()
        with open(cluster.dir / "pgbench.log", "w+b") as log:
            pgbench = subprocess.Popen(
                [
                    cluster.pgbench_program,
                    "-n",
                    "-M",
                    "prepared",
                    "-c",
                    "4",
                    "-j",
                    "1",
                    "-R",
                    str(arguments.rate),
                    "-T",
                    str(arguments.seconds),
                    "-f",
                    script,
                ],
                env=cluster.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            deadline = time.monotonic() + arguments.seconds + 60
            quiet_since = None
            # until pgbench is done and no message came for two seconds; pings come all the time
            while quiet_since is None or time.monotonic() - quiet_since < 2:
                if inbox.collect(0.001):
                    pass  # a stamp must not wait for us
                elif inbox.pending() and look(50):
                    quiet_since = None
                elif pgbench.poll() is not None:
                    quiet_since = quiet_since or time.monotonic()
                if time.monotonic() > deadline:
                    raise kit.Failure("pgbench did not end in time")
            look()
            if pgbench.returncode != 0:
                raise kit.Failure(f"pgbench failed:\n{kit.tail(cluster.dir / 'pgbench.log')}")
        cpu = relay.cpu_seconds() - cpu if cpu is not None else None
        busy = (time.process_time() - own) / (time.monotonic() - began)
        closed = [each.closed for each in inbox.sockets if each.closed]
    finally:
        if pgbench and pgbench.poll() is None:
            pgbench.kill()
            pgbench.wait()
        inbox.close()
    written = set(map(int, cluster.psql(f"select id from rowcast.outbox where op = 'I' and id > {first}").split()))
    lost = sum(len(written - set(ids)) for ids in got.values())
    twice = sum(len(ids) - len(set(ids)) for ids in got.values())
    if closed:
        kit.note(f"warning: {len(closed)} sockets were closed, the first with {closed[0]}")
    kit.note(f"the reading end was busy {busy:.0%} of the time")
    if cpu is not None and delays:
        kit.note(
            f"rowcast used {cpu * 1e6 / len(delays):.1f} µs of CPU per delivery, taking the changes from Postgres included"
        )
    name = f"{arguments.rate} transactions/s, {arguments.sockets} sockets: row's clock → frame"
    return [(name, {**distribution(delays), "lost": lost, "twice": twice})]


def distribution(nanoseconds: Any) -> dict[Any, Any]:
    ordered = sorted(value / 1e6 for value in nanoseconds)
    return {
        "count": len(ordered),
        **{name: report.percentile(ordered, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
    }


def print_results(cluster: kit.Cluster, results: Any, arguments: argparse.Namespace, load: Any) -> None:
    def line(name: str, rounds: Any) -> list[Any]:
        count = sum(figures["count"] for figures in rounds)
        times = [report.spread([figures[key] for figures in rounds], "{:.2f}".format) for key in ("p50", "p99", "max")]
        faults = [sum(figures[key] for figures in rounds) if key in rounds[0] else "" for key in ("lost", "twice")]
        return [name, f"{count:,}", *times, *faults]

    print(
        f"Milliseconds. p50, p99 and max are each the median of {arguments.rounds} rounds (least-greatest); counts are of all rounds together.\n"
    )
    print(
        report.table(
            ["", "measured", "p50", "p99", "max", "lost", "twice"], [line(*result) for result in results.items()]
        )
    )
    print("\n- The inserts one at a time wait for each other's frame: one that is lost ends the run with an error.")
    print(report.origin(cluster, load))


if __name__ == "__main__":
    kit.main(main)
