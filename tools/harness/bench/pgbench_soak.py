"""pgbench's own load with its four tables watched: every change in the outbox must arrive once, in order per row, with
the row it had, and the subscribers' last view must equal the tables. Exit code 1 on any difference."""

import argparse
import contextlib
import json
import subprocess
import time
from typing import Any

from harness import cluster as kit
from harness import report
from harness.websocket import Inbox

# table, its key, its balance; pgbench_history has no key: rows are only added
TABLES = {
    "pgbench_accounts": ("aid", "abalance"),
    "pgbench_branches": ("bid", "bbalance"),
    "pgbench_tellers": ("tid", "tbalance"),
    "pgbench_history": (None, "delta"),
}


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", "-s", type=int, default=5, help="of pgbench -i (default: 5)")
    parser.add_argument("--clients", "-c", type=int, default=8, help="of pgbench (default: 8)")
    parser.add_argument("--seconds", "-T", type=int, default=30, help="of pgbench (default: 30)")
    kit.add_arguments(parser)
    arguments = parser.parse_args()

    load = report.load_average()
    cluster = kit.Cluster(stack, arguments)
    cluster.rowcast("migrate")
    cluster.pgbench("-i", "-q", "-s", arguments.scale)
    for name in TABLES:
        cluster.rowcast("watch", f"public.{name}")
    with kit.Relay(cluster) as relay:
        subscribers, transactions = soak(cluster, relay, arguments)
        source = relay.status()["source"]
        if relay.warnings():
            kit.note(f"warning: rowcast logged:\n{relay.warnings()}")
    rows, differences = compare(cluster, subscribers)

    print(f"{transactions:,} transactions of pgbench, every change counted at its subscriber.\n")
    print(
        report.table(
            ["channel", *rows[0][1]], [[name, *(f"{value:,}" for value in counts.values())] for name, counts in rows]
        )
    )
    print(f"\n- {'No difference.' if not differences else f'{differences:,} DIFFERENCES.'}")
    print(
        f"- Relay: {source['reads']:,} reads, {source['outbox_rows']:,} rows, {source['reconnects']} reconnects, "
        f"{source['found_by_safety_read']} reads that found something without a bell."
    )
    print(report.origin(cluster, load))
    return 1 if differences else 0


class Subscriber:
    """One channel's socket and what came out of it."""

    def __init__(self, table: Any, channel: Any, socket: Any) -> None:
        self.table, self.channel, self.socket = table, channel, socket
        self.key, self.balance = TABLES[table]
        self.received: list[Any] = []  # (id, action, key, balance) as they came
        self.other: list[Any] = []

    def take(self, text: bytes) -> None:
        message = json.loads(text)
        if message["type"] == "realtime_update":
            data = message["data"] or {}
            self.received.append((message["id"], message["action"], data.get(self.key), data.get(self.balance)))
        elif message["type"] not in ("subscribed", "heartbeat"):
            self.other.append(text.decode())


def soak(cluster: kit.Cluster, relay: kit.Relay, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Runs pgbench and listens until everything that it wrote has come, or nothing came for ten seconds."""
    channels = dict(
        line.split("|") for line in cluster.psql("select target::regclass, name from rowcast.channel").splitlines()
    )
    inbox = Inbox()
    pgbench = None
    try:
        subscribers = [
            Subscriber(table, channels[table], inbox.open(relay.host, relay.port, f"/ws/{channels[table]}"))
            for table in TABLES
        ]
        by_socket = {subscriber.socket: subscriber for subscriber in subscribers}
        seen = inbox.wait_for(lambda seen: len(seen) >= len(TABLES), 10) or []
        if [json.loads(text)["type"] for _, _, text in seen] != ["subscribed"] * len(TABLES):
            raise kit.Failure(f"not every socket was told subscribed within 10 s: {seen}")
        log = cluster.dir / "pgbench.log"
        with open(log, "wb") as out:
            # without -n it first truncates pgbench_history, which is a change as well
            pgbench = subprocess.Popen(
                [cluster.pgbench_program, "-c", str(arguments.clients), "-j", "2", "-T", str(arguments.seconds)],
                env=cluster.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        expected, last = None, time.monotonic()
        while True:
            if inbox.collect(0.05):
                last = time.monotonic()
            for owner, _, text in inbox.messages(200):
                by_socket[owner].take(text)
            if expected is None and pgbench.poll() is not None:
                if pgbench.returncode != 0:
                    raise kit.Failure(f"pgbench failed:\n{kit.tail(log)}")
                expected, last = (
                    int(cluster.psql("select count(*) from rowcast.outbox where op <> 'C'")),
                    time.monotonic(),
                )
            if expected is None or inbox.pending():
                continue
            if sum(len(s.received) for s in subscribers) >= expected:
                # what would come twice gets its chance
                if time.monotonic() - last > 2:
                    break
            elif time.monotonic() - last > 10:
                break
    finally:
        if pgbench and pgbench.poll() is None:
            pgbench.kill()
            pgbench.wait()
        inbox.close()
    report_line = next(
        line for line in log.read_text(encoding="utf-8").splitlines() if "transactions actually processed" in line
    )
    return subscribers, int(report_line.split(":")[1].split("/")[0])


def compare(cluster: kit.Cluster, subscribers: Any) -> tuple[Any, ...]:
    rows, differences = [], 0
    for subscriber in subscribers:
        counts, faults = compare_channel(cluster, subscriber)
        rows.append((subscriber.channel, counts | faults))
        differences += sum(faults.values())
        for each in subscriber.other:
            kit.note(f"{subscriber.channel}: unexpected message {each}")
        if subscriber.socket.closed:
            kit.note(f"{subscriber.channel}: the socket was closed with {subscriber.socket.closed}")
    return rows, differences


def compare_channel(cluster: kit.Cluster, subscriber: Any) -> tuple[Any, ...]:
    """What the outbox and the table say against what came."""
    key, balance = subscriber.key or "missing", subscriber.balance
    actions = {"I": "created", "U": "updated", "D": "deleted", "T": "truncated"}
    before: dict[str | None, str | None] = {}
    truth, broken_chain = {}, 0
    for line in cluster.psql(
        f"""select o.id, o.op, coalesce(o.new, o.old)->>'{key}', coalesce(o.new, o.old)->>'{balance}', o.old->>'{balance}'
                  from rowcast.outbox o join rowcast.channel c on c.id = o.channel
                 where c.name = '{subscriber.channel}' and o.op <> 'C' order by o.id"""
    ).splitlines():
        number, op, row, now, old = (field or None for field in line.split("|"))
        truth[int(number)] = (actions[op], row and int(row), now and int(now))
        if op == "U":
            # by id, each change of a row starts from where the last one left it
            broken_chain += row in before and before[row] != old
            before[row] = now

    ids = [each[0] for each in subscriber.received]
    got = set(ids)
    last_id: dict[Any, int] = {}
    view: dict[Any, Any] = {}
    disordered = 0
    for number, _, row, value in subscriber.received:
        if subscriber.key:
            disordered += number <= last_id.get(row, 0)
            last_id[row] = number
            view[row] = value
    stale = 0
    if subscriber.key:
        lines = cluster.psql(f"select {subscriber.key}, {balance} from public.{subscriber.table}").splitlines()
        table = {int(row): int(value) for row, value in (line.split("|") for line in lines)}
        touched: set[Any] = {row for _, row, _ in truth.values()}
        stale = sum(view.get(row) != table[row] for row in touched)
    else:
        count = int(cluster.psql(f"select count(*) from public.{subscriber.table}"))
        # truncated comes first, then only new rows
        stale = abs(sum(each[1] == "created" for each in subscriber.received) - count)
    counts = {"in the outbox": len(truth), "received": len(ids), "rows": len(last_id)}
    faults = {
        "lost": len(truth.keys() - got),
        "twice": len(ids) - len(got),
        "never written": len(got - truth.keys()),
        "other content": sum(truth.get(each[0], each[1:]) != each[1:] for each in subscriber.received),
        "out of order": disordered,
        "broken chains": broken_chain,
        "view unlike table": stale,
        "other messages": len(subscriber.other) + (subscriber.socket.closed is not None),
    }
    return counts, faults


if __name__ == "__main__":
    kit.main(main)
