"""Pages of a large table: the newest rows beside a writer, as a command, over HTTP and by SQL; a list that thousands open at
once; and all rows, broken off in the middle."""

import argparse
import contextlib
import gc
import http.client
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import cluster as kit
from harness import report
from harness.bench import loads
from harness.bench.resume import Psql, as_many_as_files_allow, greatest, is_subscribed, listening, say, serving
from harness.websocket import Inbox

TABLE = """create table public.orders (
  order_id bigint generated always as identity primary key, created_at timestamptz not null, customer integer not null,
  state text not null, total numeric not null, note text not null)"""
FILL = """insert into public.orders (created_at, customer, state, total, note)
  select timestamptz '2020-01-01' + n * interval '10 s', n % 50000, case n % 10 when 0 then 'open' else 'done' end, n % 1000 / 10.0,
         'the usual, to be delivered in the morning' from generate_series({first}, {last}) n"""
INDEX = "create index orders_newest on public.orders (created_at, order_id)"
# what a list without the total is not told: the rest would be 500 messages a second for each client
UPDATE = """\\set id random(1, {rows})
update public.orders set total = total + 1 where order_id = :id;
"""
WRITE = """\\set id random(1, {rows})
\\set what random(1, 4)
\\if :what = 1
insert into public.orders (created_at, customer, state, total, note) values (now(), 1, 'open', 9.90, 'new');
\\else
update public.orders set total = total + 1 where order_id = :id;
\\endif
"""
LIMIT = 50
PAGE = {"type": "rows", "channel": "orders", "order": "created_at.desc", "limit": LIMIT}
SQL = (
    "select coalesce(json_agg(row_to_json(o)), '[]')::text from "
    f"(select * from public.orders order by created_at desc, order_id desc limit {LIMIT}) o;"
)
# statements of ours that take longer are in the log
LOGGING = {"log_min_duration_statement": "50ms", "log_line_prefix": "%a|", "log_temp_files": "0"}


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the table (default: 10000000)")
    parser.add_argument("--asks", type=int, default=2_000, help="pages that are asked for (default: 2000)")
    parser.add_argument("--writes", type=int, default=500, help="transactions a second meanwhile (default: 500)")
    parser.add_argument("--clients", type=int, default=20_000, help="that open one list (default: 20000)")
    parser.add_argument("--within", type=float, default=10, help="seconds in which they do (default: 10)")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it: to see that it works")
    loads.add_argument(parser)
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        parser.set_defaults(rows=100_000, asks=100, clients=200, within=2)
        arguments = parser.parse_args()

    loads.check(arguments.load)
    gc.disable()  # no cycles are made here, and a collection in the middle would look like a slow server
    load = report.load_average()
    cluster = kit.Cluster(stack, arguments, **LOGGING)
    cluster.rowcast("migrate")
    cluster.psql(TABLE)
    for first in range(1, arguments.rows + 1, 1_000_000):
        last = min(first + 999_999, arguments.rows)
        cluster.psql(FILL.format(first=first, last=last))
        kit.note(f"{last:,} rows")
    cluster.psql(INDEX, "vacuum analyze public.orders", "checkpoint")
    cluster.rowcast("watch", "public.orders")
    files, read_from = sorted_on_disk(cluster), (cluster.dir / "postgres.log").stat().st_size
    tables, faults = [], 0
    for part in (newest, opened_by_many, all_rows):
        text, wrong = part(cluster, arguments)
        tables.append(text)
        faults += wrong
    print("\n\n".join(tables))
    slow = slow_statements(cluster, read_from)
    print(
        f"\n- Statements of rowcast over 50 ms: {slow}. Sorts on disk: {sorted_on_disk(cluster) - files}. "
        + ("Every client got its rows." if not faults else f"{faults:,} FAULTS: see stderr.")
    )
    print(report.origin(cluster, load))
    return 1 if faults else 0


def slow_statements(cluster: kit.Cluster, read_from: int) -> int:
    """Statements of rowcast that took long, since the log had so many bytes."""
    said = (cluster.dir / "postgres.log").read_bytes()[read_from:].decode("utf-8", "replace")
    slow = [line for line in said.splitlines() if line.startswith("rowcast") and "duration:" in line]
    for line in slow[:10]:
        kit.note(f"slow: {line[:300]}")
    return len(slow)


def sorted_on_disk(cluster: kit.Cluster) -> int:
    """Files that Postgres wrote because memory did not do, for whichever session."""
    return int(cluster.psql("select temp_files from pg_stat_database where datname = current_database()"))


@contextlib.contextmanager
def writing(cluster: kit.Cluster, arguments: argparse.Namespace, what: str = WRITE) -> Iterator[None]:
    """So many transactions a second, until it ends."""
    script = cluster.file("write.sql", what.format(rows=arguments.rows))
    command = [cluster.pgbench_program, "-n", "-c", "4", "-R", str(arguments.writes), "-T", "3600", "-f", str(script)]
    process = subprocess.Popen(command, env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)  # until it has its pace
        yield
    finally:
        kit.stop(process, 15, "pgbench", 10)


def timed(asks: int, ask: Callable[[], Any]) -> list[float]:
    """Milliseconds of each, in order of length."""
    found = []
    for _ in range(asks):
        time.sleep(random.uniform(0, 0.004))
        began = time.perf_counter()
        ask()
        found.append((time.perf_counter() - began) * 1e3)
    return sorted(found)


# 1


def newest(cluster: kit.Cluster, arguments: argparse.Namespace) -> tuple[str, int]:
    """The newest rows, one client after the other, while others write."""
    found = {}
    with serving(cluster, "--commands-per-second", 10_000) as relay, writing(cluster, arguments):
        with Psql(cluster) as psql:
            found["SQL, by an open psql"] = timed(arguments.asks, lambda: psql.ask(SQL))
        inbox = Inbox()
        socket = inbox.open(relay.host, relay.port, "/ws")
        found["`rows` on a socket"] = timed(arguments.asks, lambda: page_on(inbox, socket, PAGE))
        connection = http.client.HTTPConnection(relay.host, relay.port)
        # one column more or less is another page: none is given out again
        turns = iter(range(arguments.asks + 1))
        found["`GET /rows/orders`"] = timed(
            arguments.asks,
            lambda: get(connection, f"/rows/orders?order=created_at.desc&limit={LIMIT - next(turns) % 40}"),
        )
        found["the same page within a second"] = timed(
            arguments.asks, lambda: get(connection, f"/rows/orders?order=created_at.desc&limit={LIMIT}")
        )
        inbox.close()
        connection.close()
    head = [
        f"1. the newest {LIMIT} of {arguments.rows:,} rows beside {arguments.writes} transactions/s",
        "p50, ms",
        "p99, ms",
        "longest, ms",
    ]
    rows = [
        [name, *(f"{report.percentile(times, share):.2f}" for share in (0.5, 0.99, 1.0))]
        for name, times in found.items()
    ]
    return report.table(head, rows), 0


def page_on(inbox: Inbox, socket: Any, command: dict[str, Any]) -> list[Any]:
    """The rows of a page that a socket asks for."""
    socket.send(json.dumps(command))
    rows: list[Any] = []
    while True:
        for _, _, text in inbox.messages():
            message = json.loads(text)
            if message["type"] != "rows":
                raise kit.Failure(f"a page was asked for, and came: {message}")
            rows += message["rows"]
            if message["last"]:
                return rows
        if not inbox.collect(30):
            raise kit.Failure("no page within 30 s")


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    """The body of an answer that is good."""
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise kit.Failure(f"{path}: {answer.status}: {body!r}")
    return body


# 2


def opened_by_many(cluster: kit.Cluster, arguments: argparse.Namespace) -> tuple[str, int]:
    """Thousands subscribe with the newest rows, evenly over some seconds, while others write."""
    clients = as_many_as_files_allow(arguments.clients)
    command = {
        "type": "subscribe",
        "channel": "orders",
        "columns": ["order_id", "created_at", "state"],
        "rows": {"order": "created_at.desc", "limit": LIMIT},
    }
    with (
        serving(cluster, "--max-sockets", clients + 100) as relay,
        writing(cluster, arguments, UPDATE),
    ):
        before = scans(cluster)
        options = ["--url", f"ws://{relay.host}:{relay.port}/ws", "--connections", clients, "--server-pid", relay.pid,
                   "--say", json.dumps(command), "--within", arguments.within,
                   "--before", '"type":"rows"', "--answer", '"type":"subscribed"']  # fmt: skip
        found = json.loads(kit.output([arguments.load, "ask", *options], timeout=180))
        reads = scans(cluster) - before
    say("opened by many", found)
    without = found["unanswered"] + found["without"]
    head = [
        f"2. {clients:,} clients open one list of {LIMIT} within {arguments.within:.0f} s, beside {arguments.writes} transactions/s",
        "asked → `subscribed`, p50 ms",
        "p99, ms",
        "longest, ms",
        "reads of the list in the database",
        "a second",
        "processors of rowcast",
        "without rows",
    ]
    row = [
        "all of them",
        *(f"{found[name]:.1f}" for name in ("p50_ms", "p99_ms", "longest_ms")),
        f"{reads:,}",
        f"{reads / found['ask_seconds']:.2f}",
        f"{found['server_busy']:.2f}",
        without,
    ]
    return report.table(head, [row]), without


def scans(cluster: kit.Cluster) -> int:
    """How often the index of the list was read. Postgres tells of a scan when the session that made it is idle."""
    time.sleep(1.2)
    return int(cluster.psql("select idx_scan from pg_stat_user_indexes where indexrelname = 'orders_newest'"))


# 3


def all_rows(cluster: kit.Cluster, arguments: argparse.Namespace) -> tuple[str, int]:
    """All rows, by a client that loses its connection in the middle, while others write."""
    state: dict[str, Any] = {"rows": 0, "token": "", "bytes": 0, "pages": 0}
    with serving(cluster) as relay, writing(cluster, arguments):
        before = relay.peak_memory()
        oldest = greatest(cluster, 0.1, age_of_transactions)
        began = time.monotonic()
        read_until(relay, state, lambda: state["rows"] >= arguments.rows // 2)
        half, went_on = state["rows"], time.monotonic()
        read_until(relay, state, lambda: False)
        done = time.monotonic()
        age = oldest()
        after = relay.peak_memory()
    # a row that was inserted behind the last page is told as a change
    wrong = abs(arguments.rows - min(state["rows"], arguments.rows)) if state["rows"] < arguments.rows else 0
    head = [
        f"3. all of {arguments.rows:,} rows, {state['bytes'] / 1e6:,.0f} MB of messages, beside the writer",
        "result",
    ]
    rows: list[list[object]] = [
        ["rows until the connection was lost", f"{half:,}"],
        ["rows after it, from where it was", f"{state['rows'] - half:,}"],
        ["seconds before, after", f"{went_on - began:.1f}, {done - went_on:.1f}"],
        ["rows a second", f"{state['rows'] / (done - began):,.0f}"],
        ["greatest memory of rowcast before, after, MiB", f"{mib(before)}, {mib(after)}"],
        ["oldest transaction of rowcast meanwhile, ms", f"{age:,.0f}"],
        ["rows lost", wrong],
    ]
    say("all rows", {"seconds": done - began, "rows": state["rows"]})
    return report.table(head, rows), wrong


def mib(value: int | None) -> str:
    return "?" if value is None else f"{value / 2**20:.1f}"


def read_until(relay: kit.Relay, state: dict[str, Any], is_enough: Callable[[], bool]) -> None:
    """Rows from where the client is, until it has enough or is subscribed."""
    path = f"/ws/orders?snapshot=true&partial=true{'&since=' + state['token'] if state['token'] else ''}"
    with listening(relay, path) as inbox:
        while True:
            if not inbox.collect(60):
                raise kit.Failure("no rows within 60 s")
            for _, _, text in inbox.messages():
                state["bytes"] += len(text)
                if is_subscribed(text):
                    return
                if b'"type":"gap"' in text:
                    raise kit.Failure(f"the rows began anew: {text!r}")
                if b'"type":"snapshot"' in text:
                    message = json.loads(text)
                    state["rows"] += len(message["rows"])
                    state["token"] = message.get("cursor", state["token"])
                    # between two pages: what is behind the token comes again
                    if message.get("cursor") and is_enough():
                        return


def age_of_transactions(psql: Psql) -> float:
    """How many milliseconds rowcast's oldest transaction is open."""
    age = psql.ask(
        "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0) * 1000 "
        "from pg_stat_activity where application_name like 'rowcast replay%';"
    )
    return float(age or 0)


if __name__ == "__main__":
    kit.main(main)
