"""How many changes a second one rowcast takes in: from the outbox through the log to a socket that reads along."""

import argparse
import contextlib
import signal
import socket
import threading
import time
from typing import Any

from harness import cluster as kit
from harness import report
from harness.websocket import WebSocket

TABLE = """create table public.visit (
  id bigint generated always as identity primary key, clinic_id int not null, pet_name text not null, reason text,
  note text, price numeric(10,2), closed boolean not null, seen_at timestamptz not null);
select rowcast.watch('public.visit');
create procedure public.many(transactions int, rows int) language plpgsql as $$ begin
  for n in 1..transactions loop
    insert into public.visit (clinic_id, pet_name, reason, note, price, closed, seen_at)
      select n % 100, 'Luna ' || n, 'annual check and vaccination',
             'no findings; weight stable since the last visit, next vaccination due in twelve months', n / 100.0, false, clock_timestamp()
        from generate_series(1, rows);
    commit;
  end loop;
end $$"""
MARK = b'"type":"realtime_update"'
READY = b'"type":"subscribed"'
# name: transactions, rows of each
SHAPES = {"one transaction of 500,000": (1, 500_000), "100,000 transactions of one": (100_000, 1)}


def main(stack: contextlib.ExitStack) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, a tenth: to see that it works")
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    rounds, part = (1, 10) if arguments.quick else (arguments.rounds, 1)

    load = report.load_average()
    cluster = kit.Cluster(stack, arguments, autovacuum="off")
    cluster.rowcast("migrate")
    for statement in TABLE.split(";\n", 2):
        cluster.psql(statement)
    found: dict[Any, Any] = {name: [] for name in SHAPES}
    for number in range(rounds):
        for name, (transactions, rows) in SHAPES.items():
            shape = (transactions, max(rows // part, 1)) if transactions == 1 else (transactions // part, rows)
            found[name].append(take_in(cluster, *shape))
            kit.note(f"round {number + 1}/{rounds}  {name}: {found[name][-1]:,.0f} changes/s")
    print("Changes a second, from the first read of the outbox until the last one was read from a socket.\n")
    print(
        report.table(
            ["written", "changes/s"], [[name, report.spread(rates, "{:,.0f}".format)] for name, rates in found.items()]
        )
    )
    print(report.origin(cluster, load))


def take_in(cluster: kit.Cluster, transactions: Any, rows: Any) -> Any:
    """rowcast is stopped while they are written, so that nothing but its own pace counts."""
    cluster.clear_outbox()
    with kit.Relay(cluster) as relay:
        reader = Reader(relay)
        before = relay.status()["source"]["outbox_rows"]
        relay._process.send_signal(signal.SIGSTOP)
        try:
            cluster.psql(f"call public.many({transactions}, {rows})")
        finally:
            relay._process.send_signal(signal.SIGCONT)
        started = time.monotonic()
        wanted = transactions * rows
        while relay.status()["source"]["outbox_rows"] - before < wanted:
            if time.monotonic() - started > 120:
                raise kit.Failure(f"{wanted:,} changes were not read within 120 s")
            time.sleep(0.005)
        reader.finish(wanted)
        return wanted / (reader.last - started)


class Reader:
    """A socket that counts what comes, as fast as Python can."""

    def __init__(self, relay: kit.Relay) -> None:
        self.socket = WebSocket(relay.host, relay.port, "/ws/visit")
        self.count = 0
        self.last = 0.0
        self.is_ready = threading.Event()  # changes follow
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        self.socket.sock.settimeout(None)
        end = b""
        while data := self.socket.sock.recv(1 << 20):
            data = end + data
            if not self.is_ready.is_set() and READY in data:
                self.is_ready.set()
            self.count += data.count(MARK)
            self.last = time.monotonic()
            end = data[1 - len(MARK) :]  # a mark may be cut in half, and a whole one does not fit into this

    def finish(self, wanted: Any) -> None:
        until = time.monotonic() + 30
        while self.count < wanted:
            if time.monotonic() > until:
                raise kit.Failure(f"{self.count:,} of {wanted:,} changes came")
            time.sleep(0.01)

    def close(self) -> None:
        """Hangs up, so that the thread ends."""
        with contextlib.suppress(OSError):  # the server may have done so already
            self.socket.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.socket.sock.close()


if __name__ == "__main__":
    kit.main(main)
