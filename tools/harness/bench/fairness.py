"""What one client can take from the others: costly filters, distinct filters, snapshots that nobody reads, connections
without a token, forged tokens. Each is tried as hard as the limits allow, and measured is what the others notice."""

import argparse
import base64
import contextlib
import hashlib
import hmac
import json
import resource
import socket
import statistics
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness import report
from harness.websocket import Refused, WebSocket

SECRET = "a secret of the benchmark"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--parts",
        type=int,
        nargs="+",
        choices=range(1, len(PARTS) + 1),
        default=range(1, len(PARTS) + 1),
        metavar="N",
        help="only these: 1 costly filters, 2 distinct filters, 3 snapshots, 4 connections, 5 forged tokens",
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    load = report.load_average()
    cluster = kit.Cluster(stack, arguments, autovacuum="off")
    cluster.rowcast("migrate")
    print("| what one tries | what the others notice |\n| --- | --- |")
    for number in sorted(set(arguments.parts)):
        for tried, noticed in PARTS[number - 1](cluster):
            print(f"| {tried} | {noticed} |", flush=True)
    print("\n" + report.origin(cluster, load))
    return 0


def token(**claims: Any) -> str:
    """A token by HS256."""

    def part(value: Any) -> Any:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    claims = {"exp": int(time.time()) + 3600, "role": "member", **claims}
    signed = part(b'{"alg":"HS256"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.digest(SECRET.encode(), signed, hashlib.sha256))).decode()


def table(cluster: kit.Cluster, name: str = "pets") -> None:
    """An empty table that members may see."""
    cluster.psql(
        f"drop table if exists public.{name}",
        f"create table public.{name} (id int primary key, name text, owner text)",
        f"select rowcast.watch('public.{name}')",
        f"select rowcast.allow('{name}', 'member')",
    )


def mute(relay: kit.Relay, path: str) -> Any:
    """A socket whose client never reads."""
    opened = WebSocket(relay.host, relay.port, path, timeout=30)
    return opened.sock


def health(relay: kit.Relay, seconds: float = 30) -> Any:
    """How long /healthz takes, and whether it is 200."""
    began = time.monotonic()
    with contextlib.suppress(OSError), socket.create_connection((relay.host, relay.port), seconds) as asked:
        asked.settimeout(seconds)
        asked.sendall(HEALTH)
        if asked.recv(4096).startswith(b"HTTP/1.1 200"):
            return time.monotonic() - began
    return None


class Health:
    """Asks for /healthz every 5 ms until told to end."""

    def __init__(self, relay: kit.Relay) -> None:
        self.took: list[Any] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(relay,))

    def _ask(self, relay: kit.Relay) -> None:
        while not self._ends.wait(0.005):
            took = health(relay)
            self.took.append(30.0 if took is None else took)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ends.set()
        self._thread.join()

    def p99(self) -> Any:
        return sorted(self.took)[int(len(self.took) * 0.99)] if self.took else 0.0


def heard(opened: Any, wanted: Any, seconds: float = 120) -> Any:
    """Waits until a socket is told something; returns when."""
    opened.sock.settimeout(seconds)
    while True:
        for message in opened.feed(opened.sock.recv(1 << 20)):
            if wanted(json.loads(message)):
                return time.monotonic()


def resident(pid: int) -> Any:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def worst(socket_number: Any, number: int) -> Any:
    """A pattern that nearly fits everywhere and fits at the end, so that the next one is looked at too; each is another."""
    before, after = socket_number % 40 + 1, 57 - socket_number // 40 * 9 - number
    return "%" + "a" * before + "%" + "a" * after + "b"


def filters(cluster: kit.Cluster) -> Iterator[Any]:
    """One user, 100 sockets, nine patterns each that nearly fit everywhere."""
    for what, distinct in (("the same for all sockets", False), ("others for each socket", True)):
        for length in (10_000, 50_000, 1_000_000):
            table(cluster)
            with kit.Relay(cluster, "--jwt-secret", SECRET) as relay, contextlib.ExitStack() as stack:
                other = WebSocket(relay.host, relay.port, f"/ws/pets?token={token(sub='6')}", timeout=120)
                heard(other, lambda message: message["type"] == "subscribed")
                quiet: list[Any] = []
                for _ in range(3):
                    began = time.monotonic()
                    cluster.psql(f"insert into pets values ({-len(quiet) - 1}, repeat('c', {length}) || 'b', '7')")
                    heard(other, lambda message: message["type"] == "realtime_update")
                    quiet.append(time.monotonic() - began)
                for n in range(100):
                    like = "".join(
                        "&filter=name=like." + urllib.parse.quote(worst(n if distinct else 0, m)) for m in range(9)
                    )
                    stack.callback(mute(relay, f"/ws/pets?filter=id=gte.-{n}{like}&token={token(sub='5')}").close)
                cpu = relay.cpu_seconds()
                with Health(relay) as asked:
                    began = time.monotonic()
                    cluster.psql(f"insert into pets values (1, repeat('a', {length}) || 'b', '7')")
                    told = heard(other, lambda message: message.get("id") and message["data"]["id"] == 1) - began
                    time.sleep(1)
                cpu = relay.cpu_seconds() - cpu
                yield (
                    f"100 sockets of one user with 9 `like` each, {what}; a row of {length:,} characters",
                    (
                        f"`/healthz` p99 {asked.p99() * 1000:.0f} ms, longest {max(asked.took) * 1000:.0f}; another user told after "
                        f"{told * 1000:.0f} ms (without them {statistics.median(quiet) * 1000:.0f}); CPU of the server {cpu:.2f} s"
                    ),
                )


def distinct(cluster: kit.Cluster) -> Iterator[Any]:
    """Filters that are told the same, and filters that are not."""
    cases = (
        ("100 sockets of one user, `id=gte.-N&old=true`", 100, 6, token(sub="5"), "filter=id=gte.-{n}&old=true"),
        ("600 sockets of one address without users, `id=gte.-N`", 600, 3, None, "filter=id=gte.-{n}"),
        (
            "100 sockets of one user, each without another row of each cut",
            100,
            6,
            token(sub="5"),
            "filter=owner=neq.{n}",
        ),
    )
    for what, sockets, megabytes, its, query in cases:
        table(cluster)
        cluster.psql("select rowcast.allow('pets', 'anon')")
        with kit.Relay(cluster, "--jwt-secret", SECRET) as relay, contextlib.ExitStack() as stack:
            for n in range(sockets):
                path = f"/ws/pets?{query.format(n=n)}" + (f"&token={its}" if its else "")
                stack.callback(mute(relay, path).close)
            before = resident(relay.pid)
            for cut in range(megabytes):
                cluster.psql(
                    f"insert into pets select {cut} * 1000 + n, repeat(md5(n::text), 32), n from generate_series(1, 1000) n"
                )
            while relay_messages(relay) < megabytes * 1000:
                time.sleep(0.05)
            time.sleep(0.5)
            yield (
                f"{what}, that do not read; {megabytes} MB are written",
                f"memory of the server {before >> 20} → {resident(relay.pid) >> 20} MiB",
            )


def relay_messages(relay: kit.Relay) -> Any:
    request = f"GET /websocket/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token(role='admin')}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((relay.host, relay.port), 30) as asked:
        asked.sendall(request.encode())
        answer = b""
        while part := asked.recv(65536):
            answer += part
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])["messages"]


def snapshots(cluster: kit.Cluster) -> Iterator[Any]:
    """60 large ones by one user, then a small one by another."""
    table(cluster)
    table(cluster, "quiet")
    cluster.psql(
        "insert into pets select n, repeat(md5(n::text), 32), n from generate_series(1, 60000) n",
        "insert into quiet values (1), (2), (3)",
    )
    with kit.Relay(cluster, "--jwt-secret", SECRET) as relay, contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.callback(mute(relay, f"/ws/pets?snapshot=true&token={token(sub='5')}").close)
        time.sleep(1)
        began = time.monotonic()
        other = WebSocket(relay.host, relay.port, f"/ws/quiet?snapshot=true&token={token(sub='6')}", timeout=120)
        took = heard(other, lambda message: message["type"] == "subscribed") - began
        yield "60 snapshots of 60 MB by one user, never read", f"another user's of 3 rows takes {took:.2f} s"


def connections(cluster: kit.Cluster) -> Iterator[Any]:
    """A server with 300 descriptors."""
    table(cluster)
    program = cluster.rowcast_program
    limited = cluster.file("limited", f'#!/bin/sh\nulimit -n 300\nexec "{program}" "$@"\n')
    limited.chmod(0o755)
    for what, path in (("400 silent connections", None), ("320 sockets without a token", "/ws")):
        cluster.rowcast_program = limited
        with kit.Relay(cluster, "--jwt-secret", SECRET) as relay, contextlib.ExitStack() as stack:
            opened = 0
            for _ in range(400 if path is None else 320):
                try:
                    held = socket.create_connection((relay.host, relay.port), 30) if path is None else mute(relay, path)
                    opened += 1
                    stack.callback(held.close)
                except (Refused, OSError):
                    pass
            took = health(relay)
            yield (
                f"{what}; the server may have 300 descriptors",
                f"{opened} are let in at once; `/healthz` answers after {'never' if took is None else f'{took * 1000:.0f} ms'}",
            )
        cluster.rowcast_program = program
    with kit.Relay(cluster, "--jwt-secret", SECRET) as relay, contextlib.ExitStack() as stack:
        before, opened = resident(relay.pid), 0
        for _ in range(1500):
            with contextlib.suppress(Refused, OSError):
                held = mute(relay, "/ws")
                stack.callback(held.close)
                held.settimeout(0.2)
                opened += 1
                # a text frame of 60,000 bytes whose end does not come
                held.sendall(b"\x81\xfe" + (60_000).to_bytes(2, "big") + bytes(4) + b"x" * 59_000)
        time.sleep(1)
        yield (
            "1,500 sockets without a token, each with 59 KB of a message",
            f"{opened} are let in; memory of the server {before >> 20} → {resident(relay.pid) >> 20} MiB",
        )


def forged(cluster: kit.Cluster) -> Iterator[Any]:
    """Tokens with a wrong signature, one after the other."""
    table(cluster)
    with kit.Relay(cluster, "--jwt-secret", SECRET) as relay:
        bad = token(sub="5")[:-4] + "AAAA"
        request = f"GET /ws/pets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bad}\r\n\r\n".encode()
        statuses: dict[Any, Any] = {}
        cpu, began = relay.cpu_seconds(), time.monotonic()
        with socket.create_connection((relay.host, relay.port), 30) as asked:
            for _ in range(5000):
                asked.sendall(request)
                status = asked.recv(65536).split(b" ", 2)[1].decode()
                statuses[status] = statuses.get(status, 0) + 1
        cpu, seconds = relay.cpu_seconds() - cpu, time.monotonic() - began
        answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
        yield f"5,000 forged tokens in {seconds:.1f} s", f"{answers}; CPU of the server {cpu:.2f} s"


PARTS = (filters, distinct, snapshots, connections, forged)

if __name__ == "__main__":
    kit.main(main)
