"""Restarts behind the real nginx and HAProxy, with each configuration that the project publishes: the files of deploy/ and
the examples of the docs, of which only addresses, ports, limits and places of files are replaced.

A user would notice a refusal, a message that is missing or comes twice, and silence: none of the first three may happen
while one node after the other is restarted, and everybody is back within seconds. Where both are away at once, clients
are refused for as long, and nobody for much longer.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness.repository import ROOT

from .crowd import Crowd

BACK_WITHIN = 30  # seconds from the end of a node until everybody is back
CONNECTIONS = 8192  # of a worker of nginx, each of which may get most of 2,000 sockets, and needs two for one
# seconds from a client's first attempt until it is in: two for HAProxy's turns, and what a busy machine adds
IN_WITHIN = 8


def run(stack: contextlib.ExitStack, arguments: argparse.Namespace, missing: Any) -> Any:
    """A restart of both nodes behind each configuration; how many went wrong."""
    wrong = 0
    cluster = kit.Cluster(stack, arguments, fsync="off")
    cluster.rowcast("migrate")
    cluster.psql("create table pets (pet_id int primary key)", "select rowcast.watch('pets')")
    for name, program, configuration in configurations():
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            wrong += missing(f"{name}: there is no {program}")
            continue
        with contextlib.ExitStack() as inner:
            said = Restarts(inner, cluster, arguments.sockets, program, configuration).run()
        cluster.psql("truncate pets")
        verdict, wrong = ("ok", wrong) if not said.mistakes else ("WRONG", wrong + 1)
        print(f"{verdict:6} {name}: {arguments.sockets} sockets; {said.said}", flush=True)
        for mistake in said.mistakes[:5]:
            print(f"       {mistake}", flush=True)
    return wrong


def configurations() -> Iterator[Any]:
    """Each that is published: where it stands, whose it is, and a function from (dir, port, nodes) to its text."""

    def read(path: str) -> Any:
        return (ROOT / path).read_text(encoding="utf-8")

    def block(path: str, kind: Any) -> Any:
        return re.search(rf"```{kind}\n(.*?)```", read(path), re.S)[1]

    yield "deploy/nginx.conf", "nginx", lambda *place: whole_nginx(read("deploy/nginx.conf"), *place)
    for page in ("docs/guides/cookbook.md", "docs/reference/operations.md"):
        yield f"nginx in {page}", "nginx", lambda *place, page=page: nginx_example(block(page, "nginx"), *place)
    yield "deploy/haproxy.cfg", "haproxy", lambda *place: haproxy(read("deploy/haproxy.cfg"), *place)
    yield (
        "HAProxy in docs/guides/cookbook.md",
        "haproxy",
        lambda *place: haproxy(block("docs/guides/cookbook.md", "haproxy"), *place),
    )


def whole_nginx(text: str, directory: Any, port: int, nodes: Any) -> Any:
    text = substitute(text, r"^user nginx;\n", "")
    text = substitute(text, r"/run/nginx.pid|/var/log/nginx", lambda found: str(directory / Path(found[0]).name))
    text = substitute(text, r"^worker_processes auto;", "worker_processes 2;")
    text = substitute(text, r"^worker_rlimit_nofile .*|^  include /etc/nginx/mime.types;\n", "")
    text = substitute(text, r"worker_connections \d+", f"worker_connections {CONNECTIONS}")
    text = substitute(text, r"^http \{\n", "http {\n" + temporary_places(directory))
    text = substitute(text, r"listen 8080", f"listen 127.0.0.1:{port}")
    return substitute(text, r"gateway-([123]):8000", lambda found: nodes[(int(found[1]) - 1) % 2])


def nginx_example(text: str, directory: Any, port: int, nodes: Any) -> str:
    text = re.sub(r"^  (listen|server_name|ssl_\w+) .*\n", "", text, flags=re.M)
    text = substitute(text, r"^server \{\n", f"server {{\n  listen 127.0.0.1:{port};\n")
    text = substitute(text, r"10\.0\.0\.([12]):8000", lambda found: nodes[int(found[1]) - 1])
    return (
        f"pid {directory}/nginx.pid;\nworker_processes 2;\nevents {{ worker_connections {CONNECTIONS}; }}\n"
        f"http {{\naccess_log off;\n{temporary_places(directory)}{text}}}\n"
    )


def temporary_places(directory: Any) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"  {kind}_temp_path {directory}/{kind};\n" for kind in kinds)


def haproxy(text: str, directory: Any, port: int, nodes: Any) -> Any:
    text = re.sub(r"^  stats socket .*\n", "", text, flags=re.M)
    # as many as the descriptors of this machine allow: with as many as there are clients, one that comes back waits until
    # its former connection is gone
    text = re.sub(r"^  maxconn \d+\n", "", text, flags=re.M)
    text = substitute(text, r"bind :\d+( ssl crt \S+)?", f"bind 127.0.0.1:{port}")
    return substitute(text, r"10\.0\.0\.([123]):8000", lambda found: nodes[(int(found[1]) - 1) % 2])


def substitute(text: str, pattern: Any, replacement: Any) -> Any:
    """Replaces, and insists that there was something to replace: the file may have changed."""
    text, count = re.subn(pattern, replacement, text, flags=re.M)
    if not count:
        raise kit.Failure(f"nothing in the configuration matches {pattern}")
    return text


class Restarts:
    """Two nodes behind a proxy, and the sockets of many clients through it."""

    def __init__(
        self, stack: contextlib.ExitStack, cluster: kit.Cluster, sockets: Any, program: Any, configuration: Any
    ) -> None:
        self.cluster, self.stack = cluster, stack
        self.ports = [kit.free_port(), kit.free_port()]
        self.nodes = [kit.Relay(cluster, port=port) for port in self.ports]
        stack.callback(self._stop_nodes)
        self.port = kit.free_port()
        self._proxy(program, configuration)
        self.mistakes: list[str] = []
        self.said, self.written = "", 0
        self.crowd = Crowd(self.port, sockets)
        self.clients = self.crowd.clients

    def _proxy(self, program: Any, configuration: Any) -> None:
        directory = Path(self.cluster.dir) / f"proxy-{self.port}"
        (directory / "nginx").mkdir(parents=True)
        file = directory / "conf"
        file.write_text(
            configuration(directory, self.port, [f"127.0.0.1:{port}" for port in self.ports]), encoding="utf-8"
        )
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        if program == "nginx":
            command = [
                shutil.which(program, path=path),
                "-p",
                directory,
                "-e",
                directory / "error.log",
                "-c",
                file,
                "-g",
                "daemon off;",
            ]
            ends = signal.SIGTERM
        else:
            command, ends = [shutil.which(program, path=path), "-db", "-f", file], signal.SIGUSR1
        with open(directory / "out", "wb") as out:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.stack.callback(end_proxy, process, ends)
        deadline = time.monotonic() + 30
        while not answers(self.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise kit.Failure(f"{program} did not start:\n{kit.tail(directory / 'out')}")
            time.sleep(0.05)

    def run(self) -> Any:
        self.crowd.start()
        self.stack.callback(self.crowd.end)
        self._until(lambda client: client.has_joined, "to begin with")
        self._write()
        self._until(self._has_all, "before the first restart")
        self._one_by_one()
        self._both()
        for client in self.clients:
            self.mistakes += client.mistakes
            expected = list(range(1, self.written + 1))
            if not client.mistakes and client.heard != expected:
                self.mistakes.append(f"a client heard {client.heard} of {expected}")
        return self

    def _one_by_one(self) -> None:
        """There is a node all the time, and nobody may be refused."""
        taken = []
        for number in (0, 1):
            began = time.monotonic()
            self.nodes[number].__exit__()
            self._write()
            self._until(self._has_all, f"after node {number + 1} has ended")
            taken.append(f"{time.monotonic() - began:.1f}")
            self.nodes[number] = kit.Relay(self.cluster, port=self.ports[number])
            self._write()
            self._until(self._has_all, f"after node {number + 1} is there again")
        tried, silent = self.crowd.longest()
        if tried > IN_WITHIN:
            self.mistakes.append(f"a client tried for {tried:.1f} s")
        self.mistakes += [refused for client in self.clients for refused in client.refused]
        self.said = (
            f"one by one: back after {' and '.join(taken)} s, slowest {tried:.2f} s from its first attempt, "
            f"silent {silent:.1f} s"
        )

    def _both(self) -> None:
        """There is no node for a moment, and a client that comes then is refused."""
        for client in self.clients:
            client.tried, client.refused = 0.0, []
        began = time.monotonic()
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.__exit__(), self.nodes))
        self.nodes = [kit.Relay(self.cluster, port=port) for port in self.ports]
        away = time.monotonic() - began
        self._write()
        self._until(self._has_all, "after both nodes were away")
        refused = sum(bool(client.refused) for client in self.clients)
        self.said += (
            f"; both, away for {away:.1f} s: back after {time.monotonic() - began:.1f} s, {refused} refused, "
            f"slowest {self.crowd.longest()[0]:.2f} s"
        )

    def _write(self) -> None:
        self.written += 1
        self.cluster.psql(
            f"insert into pets values ({self.written})",
            f"select rowcast.notify('7', 'n', '{{\"pet_id\": {self.written}}}')",
        )

    def _has_all(self, client: Any) -> bool:
        return client.last == self.written

    def _until(self, condition: Any, when: Any) -> None:
        deadline = time.monotonic() + BACK_WITHIN
        while late := sum(not condition(client) for client in self.clients):
            if time.monotonic() > deadline:
                self.mistakes.append(
                    f"{late} of {len(self.clients)} clients are not there, or not up to date, {BACK_WITHIN} s {when}"
                )
                return
            time.sleep(0.02)

    def _stop_nodes(self) -> None:
        for node in self.nodes:
            node.__exit__()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def end_proxy(process: Any, number: int) -> None:
    """Sockets are gone by then; HAProxy would otherwise wait for them."""
    process.send_signal(number)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(5)
