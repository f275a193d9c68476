"""What a delivery costs: CPU time, memory and latency of many sockets, beside other servers that do the same work; and
what filters, users and clients that never read cost rowcast."""

import argparse
import contextlib
import functools
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness import report
from harness.bench import loads
from harness.repository import ROOT

HERE = ROOT / "benches"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rowcast-bench"
# sockets: rows under way at most, rows of a transaction
FLAT_OUT = {100: (64, 16), 1000: (32, 8), 5000: (16, 4)}
IDLE = (1000, 5000, 10_000, 18_000)
MANY = 10_000
# about 300 bytes as JSON. What the load looks for stands side by side
COLUMNS = "id bigint generated always as identity primary key, publisher int, n bigint, t bigint, owner int, body text"
TABLES = (  # one for rowcast, one whose rows are also for users, one for those that listen to NOTIFY
    f"create table public.fan ({COLUMNS})",
    f"create table public.inbox ({COLUMNS})",
    f"create table public.told ({COLUMNS})",
    "select rowcast.watch('public.fan'), rowcast.watch('public.inbox', user_rule => 'owner')",
    (
        "create function public.tell() returns trigger language plpgsql as $$ begin "
        "perform pg_notify('fan', row_to_json(new)::text); return null; end $$"
    ),
    "create trigger tell after insert on public.told for each row execute function public.tell()",
)
ROWCAST = "rowcast"


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="rows are written in each run (default: 4)")
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=list(PEERS),
        default=list(PEERS),
        metavar="NAME",
        help=f"compare with these ({', '.join(PEERS)}; default: all that can be run here)",
    )
    parser.add_argument(
        "--parts",
        type=int,
        nargs="+",
        choices=range(1, len(PARTS) + 1),
        default=range(1, len(PARTS) + 1),
        metavar="N",
        help="only these: 1 flat out, 2 one message at a time, 3 idle, 4 latency; rowcast alone: 5 filters, 6 users, "
        "7 clients that never read, 8 idle",
    )
    loads.add_argument(parser)
    parser.add_argument(
        "--quick", action="store_true", help="one round, 1 s each, a tenth of the sockets: to see that it works"
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        parser.set_defaults(rounds=1, seconds=1)
        arguments = parser.parse_args()
    loads.check(arguments.load)

    cpus = pin()
    files = raise_file_limit()
    peers, missing = prepare(arguments.peers if set(arguments.parts) & {1, 2, 3, 4} else [])
    load = report.load_average()
    cluster = kit.Cluster(stack, arguments, autovacuum="off")
    cluster.rowcast("migrate")
    cluster.psql(*TABLES)
    bench = Bench(cluster, arguments, peers, cpus, files)
    for number in sorted(set(arguments.parts)):
        PARTS[number - 1](bench)
    print("\n\n".join(filter(None, (bench.comparison(), bench.details()))))
    faults = sum(bench.faults.values())
    print(
        f"\n- {'Nothing was lost, repeated or out of order.' if not faults else f'{faults:,} FAULTS: see stderr.'} "
        f"Each figure is the median of {arguments.rounds} rounds (least-greatest); a ratio is of medians, peer to rowcast."
    )
    print(
        f"- {f'The server had CPU {cpus[0]}, everything else CPU {cpus[1]}' if cpus else 'Nothing was pinned to a CPU'}; open files: {files:,} each."
    )
    for name, reason in missing:
        print(f"- Not run: {name}: {reason}")
    print(report.origin(cluster, load))
    return 1 if faults else 0


# the parts


def flat_out(bench: Any) -> None:
    """As fast as the server can, with a few messages under way: it is never idle and never buried."""
    for full, (window, rows) in FLAT_OUT.items():
        sockets = bench.scaled(full)
        bench.compare(
            f"flat out, {sockets:,} sockets",
            lambda server, n=sockets, window=window, rows=rows: bench.fanout(
                server, n, server.feed(2, rows), "--window", window
            ),
            {"CPU µs per delivery": "cpu_us_per_delivery"},
        )


def one_at_a_time(bench: Any) -> None:
    """The next message leaves when the last one is everywhere: nothing can be put into one write."""
    sockets = bench.scaled(1000)
    bench.compare(
        f"one message at a time, {sockets:,} sockets",
        lambda server: bench.fanout(server, sockets, server.feed(1, 1), "--one-at-a-time", "--spin"),
        {"CPU µs per delivery": "cpu_us_per_delivery"},
    )


def idle(bench: Any) -> None:
    """Sockets that wait."""
    sockets = bench.scaled(MANY)
    bench.compare(
        f"{sockets:,} idle sockets",
        lambda server: bench.idle(server, sockets),
        {
            "KiB each": "kib_per_connection",
            "KiB each of the second half": "kib_per_further_connection",
            "s to open all": "open_seconds",
        },
    )


def latency(bench: Any) -> None:
    """From the writer's clock to the read, at a rate that is kept whether or not the last rows were delivered."""
    sockets = bench.scaled(100)
    bench.compare(
        f"1,000 transactions/s, {sockets:,} sockets",
        lambda server: bench.fanout(
            server,
            sockets,
            server.feed(4, 1),
            "--rate",
            1000,
            "--warm-up",
            bench.arguments.seconds / 2,
            seconds=bench.arguments.seconds * 1.5,
        ),
        {
            "p50 ms": "p50_ms",
            "p99 ms": "p99_ms",
            "the writer's own answer, p50 ms": "answer_p50_ms",
            "the same, p99 ms": "answer_p99_ms",
        },
        [name for name in bench.servers if name not in NOT_FED_BY_POSTGRES],
    )


def filters(bench: Any) -> None:
    """Each socket has a filter of its own, and each row fits one of them."""
    for full in (100, MANY):
        sockets = bench.scaled(full)
        bench.alone(
            f"{sockets:,} distinct filters, a socket each, each row for one",
            lambda server, n=sockets: bench.fanout(
                server, n, server.feed(2, 16), "--window", 64, path="/ws/fan?filter=owner=eq.{n}"
            ),
        )


def users(bench: Any) -> None:
    """Each socket is a user's, and each row notifies one of them."""
    sockets = bench.scaled(MANY)
    bench.alone(
        f"{sockets:,} users, a socket each, each row notifies one",
        lambda server: bench.fanout(
            server, sockets, server.feed(2, 16, "public.inbox"), "--window", 64, path="/ws/user/{n}"
        ),
    )


def never_read(bench: Any) -> None:
    """The same rows with and without clients beside them that read nothing. They are large and go on for long enough
    that the log of the channel leaves such a client behind."""
    readers = bench.scaled(1000)
    for lazy in (0, readers):
        beside = f"{lazy:,} that never read" if lazy else "nobody"
        bench.alone(
            f"50 rows/s of 8 kB, {readers:,} sockets beside {beside}",
            lambda server, lazy=lazy: bench.fanout(
                server,
                readers,
                server.feed(2, 1),
                "--rate",
                50,
                "--body",
                8000,
                "--never-read",
                lazy,
                "--peak",
                seconds=bench.arguments.seconds * 4,
            ),
        )


def more_idle(bench: Any) -> None:
    """Sockets that wait, and the memory of the whole server."""
    for full in IDLE:
        sockets = bench.scaled(full)
        bench.alone(f"{sockets:,} idle sockets", lambda server, n=sockets: bench.idle(server, n))


class Bench:
    """The servers, each started anew for each run, and what was found."""

    def __init__(self, cluster: kit.Cluster, arguments: argparse.Namespace, peers: Any, cpus: Any, files: Any) -> None:
        self.cluster, self.arguments, self.cpus, self.files = cluster, arguments, cpus, files
        self.servers: dict[str, Callable[[], Any]] = {
            ROWCAST: lambda: Rowcast(cluster),
            **{name: functools.partial(peer, cluster) for name, peer in peers.items()},
        }
        self.compared: dict[str, Any] = {}
        self.alone_lines: list[Any] = []
        self.faults = dict.fromkeys(self.servers, 0)

    def scaled(self, sockets: Any) -> Any:
        """So many, less where it must be quick or where files do not suffice: each end of a socket is one."""
        return min(sockets // 10 if self.arguments.quick else sockets, self.files - 200)

    def compare(self, title: str, run: Any, figures: Any, names: Any = None) -> None:
        """Lines of the first table: all servers in turn, round by round. `figures`: what they are called, and in the load's answer."""
        found = self.rounds(title, run, names or list(self.servers))
        for label, key in figures.items():
            self.compared[f"{title}: {label}"] = {name: [line[key] for line in lines] for name, lines in found.items()}

    def alone(self, title: str, run: Any) -> None:
        """A line of the second table."""
        self.alone_lines.append((title, self.rounds(title, run, [ROWCAST])[ROWCAST]))

    def rounds(self, title: str, run: Any, names: Any) -> Any:
        found: dict[Any, Any] = {name: [] for name in names}
        for number in range(self.arguments.rounds):
            for name in names:
                self.cluster.psql("truncate public.fan, public.inbox, public.told restart identity")
                self.cluster.clear_outbox()
                self.cluster.psql("checkpoint")
                with contextlib.ExitStack() as stack:
                    with self.on_server_cpu():
                        server = stack.enter_context(self.servers[name]())
                    line = run(server)
                    line["too_slow"] = server.closed_too_slow()
                wrong = faults_of(line)
                self.faults[name] += sum(wrong.values())
                found[name].append(line)
                kit.note(
                    f"round {number + 1}/{self.arguments.rounds}  {title}  {name}: "
                    + ", ".join(f"{key} {value:g}" for key, value in line.items())
                    + (f"  FAULTS: {wrong}" if wrong else "")
                )
        return found

    @contextlib.contextmanager
    def on_server_cpu(self) -> Iterator[Any]:
        """What is started meanwhile has this CPU and no other, as under `taskset -c`."""
        if self.cpus:
            os.sched_setaffinity(0, {self.cpus[0]})
        try:
            yield
        finally:
            if self.cpus:
                os.sched_setaffinity(0, {self.cpus[1]})

    def idle(self, server: Any, sockets: Any) -> Any:
        return self.load("idle", server, sockets, "--hold", 3)

    def fanout(
        self, server: Any, sockets: Any, *options: Any, path: str | None = None, seconds: float | None = None
    ) -> Any:
        flat = [part for option in options for part in (option if isinstance(option, list) else [option])]
        return self.load("fanout", server, sockets, "--seconds", seconds or self.arguments.seconds, *flat, path=path)

    def load(self, mode: Any, server: Any, sockets: Any, *options: Any, path: str | None = None) -> Any:
        words = loads.command(
            self.arguments.load, mode, server, path or server.path, sockets, *server.options, *options
        )
        return loads.run(words)

    def comparison(self) -> Any:
        """The first table; empty where none of its parts was asked for."""
        if not self.compared:
            return ""
        head, rows = ["", ROWCAST], []
        for name in list(self.servers)[1:]:
            head += [name, "ratio"]
        for title, found in self.compared.items():
            own = statistics.median(found[ROWCAST])
            row = [title, report.spread(found[ROWCAST], "{:.2f}".format)]
            for name in list(self.servers)[1:]:
                values = found.get(name)
                row += (
                    [report.spread(values, "{:.2f}".format), f"{statistics.median(values) / own:.2f}" if own else ""]
                    if values
                    else ["", ""]
                )
            rows.append(row)
        faults: list[object] = ["lost, repeated, out of order, ended"]
        for name in self.servers:
            faults += [self.faults[name]] if name == ROWCAST else [self.faults[name], ""]
        return report.table(head, [*rows, faults])

    def details(self) -> Any:
        """The second table; empty where none of its parts was asked for."""
        if not self.alone_lines:
            return ""
        figures = {
            "CPU µs per change": ("cpu_us_per_message", 1, "{:.1f}"),
            "p50 ms": ("p50_ms", 1, "{:.2f}"),
            "p99 ms": ("p99_ms", 1, "{:.2f}"),
            "s to open all": ("open_seconds", 1, "{:.2f}"),
            "KiB per socket": ("kib_per_connection", 1, "{:.2f}"),
            "memory, MiB": ("memory_open_kib", 1024, "{:.1f}"),
            "most memory, MiB": ("peak_memory_kib", 1024, "{:.1f}"),
            "most of the kernel's TCP, MiB": ("peak_tcp_kib", 1024, "{:.1f}"),
            "closed as too slow": ("too_slow", 1, "{:.0f}"),
        }
        rows = [
            [
                title,
                *(
                    report.spread([line[key] / unit for line in lines], form.format) if key in lines[0] else ""
                    for key, unit, form in figures.values()
                ),
            ]
            for title, lines in self.alone_lines
        ]
        return report.table([f"{ROWCAST} alone", *figures], rows)


def faults_of(line: Any) -> dict[str, int]:
    """What a run must not have had, where it had it."""
    return {key: line[key] for key in ("lost", "repeated", "disordered", "misdirected", "ended") if line.get(key)}


class Rowcast(kit.Relay):
    """rowcast as a server under load."""

    path = "/ws/fan"
    options = ("--ready", '"type":"subscribed"')  # it says when changes follow; a socket is not open before

    def __init__(self, cluster: kit.Cluster) -> None:
        super().__init__(cluster)
        self._url = cluster.url

    def __exit__(self, *details: Any) -> None:
        if self.warnings():
            kit.note(f"warning: rowcast logged:\n{self.warnings()}")
        super().__exit__(*details)

    def feed(self, publishers: Any, rows: Any, table: str = "public.fan") -> Any:
        """How the load publishes to it."""
        return postgres_feed(self._url, publishers, rows, table)

    def closed_too_slow(self) -> Any:
        """Sockets that it gave up."""
        return self.status()["closed_too_slow"]


# the peers


class Missing(Exception):
    """Why a peer cannot be run here, and what would help."""


class Peer:
    """Another server under load, ready when the constructor returns."""

    path, options = "/ws", ()

    def __init__(self, cluster: kit.Cluster, command: Any, port: int, **env: Any) -> None:
        self.port, self._url = port, cluster.url
        log = cluster.dir / "peer.log"
        with open(log, "wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=cluster.dir,
                env={**cluster.env, "PORT": str(port), **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + 20
        try:
            while not self._is_ready(cluster):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise kit.Failure(f"{command[0]} did not become ready:\n{kit.tail(log)}")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)  # it leads a group: what it started ends with it
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                return

    def _is_ready(self, cluster: kit.Cluster) -> Any:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0 and self._listens(cluster)

    def _listens(self, cluster: kit.Cluster) -> bool:
        return cluster.psql("select count(*) from pg_stat_activity where query ilike 'listen%'") != "0"

    def feed(self, publishers: Any, rows: Any) -> Any:
        """How the load publishes to it."""
        return postgres_feed(self._url, publishers, rows, "public.told")

    def closed_too_slow(self) -> int:
        """None of them does that."""
        return 0


def postgres_feed(url: str, publishers: Any, rows: Any, table: Any) -> list[Any]:
    return ["--publish", "pg", "--dsn", url, "--table", table, "--publishers", publishers, "--rows", rows]


class Nchan(Peer):
    """nginx with nchan. It is published to over HTTP, a message in each request, so with more connections."""

    def __init__(self, cluster: kit.Cluster, module: Any) -> None:
        port = kit.free_port()
        template = (HERE / "peers/nchan/nginx.conf").read_text(encoding="utf-8")
        conf = cluster.file("nginx.conf", template.replace("MODULE", str(module)).replace("PORT", str(port)))
        super().__init__(cluster, ["nginx", "-e", "stderr", "-p", cluster.dir, "-c", conf], port)

    def _listens(self, _cluster: Any) -> bool:
        return True

    def feed(self, publishers: Any, _rows: Any) -> list[Any]:
        return [
            "--publish",
            "http",
            "--post-url",
            f"http://127.0.0.1:{self.port}/publish",
            "--publishers",
            1 if publishers == 1 else 4,
        ]


def node_ws() -> Any:
    """Node.js with ws and pg."""
    for program in ("node", "npm"):
        if not shutil.which(program):
            raise Missing(f"there is no {program}; on Debian: apt-get install nodejs npm")
    source = HERE / "peers/node_ws"
    home = installed(
        source / "package.json", lambda home: [["npm", "install", "--prefix", home, "--no-audit", "--no-fund"]]
    )
    return lambda cluster: Peer(
        cluster, ["node", source / "server.js"], kit.free_port(), NODE_PATH=str(home / "node_modules")
    )


def uwebsockets() -> Any:
    """uWebSockets behind Python's socketify, with asyncpg."""
    source = HERE / "peers/uwebsockets"
    home = installed(
        source / "requirements.txt",
        lambda home: [
            [sys.executable, "-m", "venv", home / "venv"],
            [home / "venv/bin/pip", "install", "--quiet", "-r", home / "requirements.txt"],
        ],
    )
    python = home / "venv/bin/python"
    try:
        kit.run([python, "-c", "import asyncpg, socketify"])
    except kit.Failure as failure:  # the package has no libuv of its own
        raise Missing(
            f"{'there is no libuv' if 'libuv' in str(failure) else failure}; on Debian: apt-get install libuv1"
        ) from failure
    return lambda cluster: Peer(cluster, [python, source / "server.py"], kit.free_port())


def nchan() -> Any:
    """nginx with nchan."""
    places = [
        Path(root) / "ngx_nchan_module.so"
        for root in ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
    ]
    module = next((place for place in places if place.exists()), None)
    if not module or not shutil.which("nginx"):
        raise Missing(
            "there is no nginx with nchan; on Debian: apt-get install --no-install-recommends nginx libnginx-mod-nchan"
        )
    return lambda cluster: Nchan(cluster, module)


PEERS = {"node_ws": node_ws, "uwebsockets": uwebsockets, "nchan": nchan}
NOT_FED_BY_POSTGRES = ("nchan",)
PARTS = (flat_out, one_at_a_time, idle, latency, filters, users, never_read, more_idle)


def installed(wanted: Any, commands: Any) -> Any:
    """A directory in the user's cache in which these commands have run for this list of packages."""
    home = CACHE / wanted.parent.name
    done = home / "installed"
    text = wanted.read_text(encoding="utf-8")
    if not done.exists() or done.read_text(encoding="utf-8") != text:
        kit.note(f"installing {wanted.parent.name} into {home}")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        shutil.copy(wanted, home)
        for command in commands(home):
            try:
                kit.run(command)
            except kit.Failure as failure:
                shown = " ".join(map(str, command))
                raise Missing(f"{str(failure).splitlines()[-1]}; by hand: {shown}") from failure
        done.write_text(text, encoding="utf-8")
    return home


def prepare(names: Any) -> tuple[Any, ...]:
    """The peers that can be run here, and why the others cannot."""
    peers, missing = {}, []
    for name in names:
        try:
            peers[name] = PEERS[name]()
        except Missing as reason:
            kit.note(f"warning: {name} is not run: {reason}")
            missing.append((name, reason))
    return peers, missing


# the machine


def pin() -> Any:
    """The CPU of the server and that of everything else, where there are two: so the ceiling of each server is one core."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cpus) < 2:
        kit.note("warning: there are no two CPUs, so the server shares what there is with everything else")
        return None
    os.sched_setaffinity(0, {cpus[1]})
    return cpus[:2]


def raise_file_limit(wanted: int = 0) -> int:
    """A socket is a file, in the server too, which inherits the limit. Where it allows fewer than `wanted`, root may raise
    it, unless root has no CAP_SYS_RESOURCE, as in many containers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    allowed = max(100_000, wanted) if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


if __name__ == "__main__":
    kit.main(main)
