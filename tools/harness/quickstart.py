"""Runs docs/guides/quickstart.md: every fenced block as it stands, in order, against a real server on a private Postgres. Each
program of a reader has to show a row that psql writes while it runs. Then the SQL of docs/guides/cookbook.md, on a database of its
own; and whether docs/reference/operations.md names every setting, metric and log event that there is, and deploy/ no other metric.
Exit code 1 where anything is wrong.

The page says 127.0.0.1:8000 and localhost:5432, so it runs in a network of its own where the system lets it (Linux, unshare),
else on these ports, if they are free. Needs Postgres, curl; Node 20 with client/node_modules (npm ci) and Chromium for the
browser's blocks; the network, once, for the package websockets, which goes into target/quickstart. What is missing is
skipped and said, or with CI=true a failure. A private Postgres is harness.cluster. Standard library only.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness.repository import ROOT

INSIDE = "ROWCAST_QUICKSTART_INSIDE"  # set for the run in a network of its own
PORTS = {5432: "Postgres", 8000: "rowcast", 3000: "the pages"}
ALL_WITHIN = 900  # seconds; then it is given up, whatever hangs
BLOCK_WITHIN = 180  # seconds for a block that ends by itself
SHOWN_WITHIN = 120  # seconds until a reader must show the row
CLIENT = ROOT / "client"
VENV = ROOT / "target/quickstart"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")

# Opens a page and prints its text whenever that has changed.
BROWSER = """
const { chromium } = require("playwright-core");
const [program, url] = process.argv.slice(1);
(async () => {
  const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
  for (const end of ["SIGTERM", "SIGINT"]) process.on(end, () => browser.close().finally(() => process.exit(0)));
  const page = await browser.newPage();
  page.on("console", (said) => console.log("console:", said.text()));
  page.on("pageerror", (error) => console.log("page error:", error.message));
  await page.goto(url);
  for (let last = ""; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
    const text = await page.evaluate(() => document.body?.innerText ?? "").catch(() => last);
    if (text !== last) console.log((last = text));
  }
})();
"""
# As a bundler does it. rowcast-client is its sources, in place of the package that they become.
BUNDLER = """
const { build } = require("esbuild");
const [client, entry, out] = process.argv.slice(1);
const files = { "rowcast-client": "index.ts", "rowcast-client/react": "react.ts" };
const plugin = { name: "client", setup: (build) =>
  build.onResolve({ filter: /^rowcast-client/ }, ({ path }) => files[path] && { path: `${client}/src/${files[path]}` }) };
build({ entryPoints: [entry], outfile: out, bundle: true, format: "esm", jsx: "automatic", plugins: [plugin],
        define: { "process.env.NODE_ENV": '"production"' } }).catch(() => process.exit(1));
"""


class Missing(Exception):
    """What this machine lacks, and how to get it."""


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kit.add_arguments(parser)
    parser.set_defaults(rowcast=ROOT / "target/debug/rowcast")
    arguments = parser.parse_args()
    if not os.environ.get(INSIDE):
        prepare_python()
        go_into_own_network()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(ALL_WITHIN)
    stack.callback(signal.alarm, 0)
    failed = names_differ()
    busy = [f"{port} ({name})" for port, name in PORTS.items() if not is_free(port)]
    if busy:
        raise kit.Failure(
            f"ports in use that the page needs: {', '.join(busy)}; with unshare(1) it would have a network of its own"
        )
    failed += Page(stack, arguments).run()
    print("Nothing is wrong." if not failed else f"{failed} WRONG.")
    return 1 if failed else 0


# ── the blocks of quickstart.md ─────────────────────────────────────────────────────────────────────────────────────────


class Page:
    """The page, the machine that its reader has, and how far the reader got."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace) -> None:
        self.stack = stack
        self.cluster = kit.Cluster(stack, arguments, fsync="off")
        # the page's database: postgres://me@localhost/mydb
        self.cluster.psql(
            "alter system set listen_addresses = 'localhost'",
            "create role me login superuser",
            "create database mydb owner me",
        )
        self.cluster.restart()
        self.dir = Path(self.cluster.dir) / "reader"
        programs = self.dir / "bin"
        programs.mkdir(parents=True)
        (programs / "rowcast").symlink_to(Path(arguments.rowcast).resolve())
        (programs / "psql").symlink_to(self.cluster.psql_program)
        if (CLIENT / "node_modules").is_dir():
            (self.dir / "node_modules").symlink_to(CLIENT / "node_modules")
        unwanted = (
            "PG",
            "ROWCAST_",
            "WEBSOCKET_",
            "DATABASE_URL",
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
        )
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        self.env.update(PATH=f"{programs}:{os.environ['PATH']}", LC_ALL="C.UTF-8")
        self.prelude = ""  # what the reader typed into each terminal
        self.count = 0

    def run(self) -> Any:
        """Runs everything; how much of it went wrong."""
        steps = {
            "Name the database": [self.name, self.shell],
            "Install, watch, serve": [self.shell, self.serve],
            "Write a row": [self.shell],
            "Read: curl": [self.curl],
            "Read: a page with the client": [lambda text: self.page("list.html", text)],
            "Read: React": [self.react],
            "Read: a page with EventSource": [lambda text: self.page("events.html", text)],
            "Read: Node": [self.node],
            "Read: Python": [self.python],
        }
        sections = blocks(ROOT / "docs/guides/quickstart.md")
        there = {title: len(texts) for title, texts in sections.items()}
        known = {title: len(runners) for title, runners in steps.items()}
        if there != known:
            raise kit.Failure(
                f"docs/guides/quickstart.md has other blocks than this test knows:\n  page {there}\n  test {known}"
            )
        failed = 0
        for title, runners in steps.items():
            for (_, text), runner in zip(sections[title], runners):
                failed += self.step(title, runner, text)
        return failed + self.cookbook()

    def step(self, title: str, runner: Any, *arguments: Any) -> int:
        """One block; 1 where it failed."""
        begun = time.monotonic()
        try:
            runner(*arguments)
        except Missing as missing:
            if os.environ.get("CI") == "true":
                print(f"WRONG    {title}: {missing}", flush=True)
                return 1
            print(f"skipped  {title}: {missing}", flush=True)
            return 0
        except (kit.Failure, subprocess.TimeoutExpired) as failure:
            print(f"WRONG    {title}: {failure}", flush=True)
            return 1
        print(f"ok       {title} ({time.monotonic() - begun:.1f} s)", flush=True)
        return 0

    def name(self, text: str) -> None:
        self.prelude += text + "\n"

    def shell(self, text: str) -> None:
        """A block that ends by itself."""
        done = subprocess.run(
            ["sh", "-euc", self.prelude + text],
            cwd=self.dir,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_WITHIN,
        )
        if done.returncode != 0:
            raise kit.Failure(f"{text}\nended with code {done.returncode}:\n{done.stdout.strip()}")

    def serve(self, text: str) -> None:
        """The server, until the test ends."""
        server = Program(self.stack, self, "the server", ["sh", "-euc", self.prelude + "exec " + text])
        deadline = time.monotonic() + 15
        while (
            subprocess.run(["curl", "-sfo", "/dev/null", "http://127.0.0.1:8000/readyz"], env=self.env).returncode != 0
        ):
            if time.monotonic() > deadline or server.has_ended():
                raise kit.Failure(f"it is not ready:\n{server.said()}")
            time.sleep(0.05)

    def curl(self, text: str) -> None:
        need("curl", shutil.which("curl"), "apt-get install curl")
        self.shows(["sh", "-euc", self.prelude + "exec " + text])

    def node(self, text: str) -> None:
        node_with("ws")
        (self.dir / "live.mjs").write_text(text, encoding="utf-8")
        self.shows(["node", "live.mjs"])

    def python(self, text: str) -> None:
        need(
            "the package websockets",
            python_has_websockets(),
            f"it is fetched into {VENV.relative_to(ROOT)} where python3 -m venv works and PyPI answers",
        )
        (self.dir / "live.py").write_text(text, encoding="utf-8")
        self.shows([str(VENV / "bin/python3"), "live.py"])

    def react(self, text: str) -> None:
        node_with("esbuild", "react")
        (self.dir / "main.jsx").write_text(text, encoding="utf-8")
        kit.run(
            ["node", "-e", BUNDLER, CLIENT, "main.jsx", "main.js"],
            cwd=self.dir,
            env={**self.env, "NODE_PATH": str(CLIENT / "node_modules")},
            timeout=BLOCK_WITHIN,
        )
        self.page("react.html", '<!doctype html><script type="module" src="main.js"></script>')

    def page(self, file: Any, text: str) -> None:
        """A page of a server of its own, as the text beside it says, in Chromium."""
        node_with("playwright-core")
        need("Chromium", os.access(CHROMIUM, os.X_OK), "install it, or set CHROMIUM")
        (self.dir / file).write_text(text, encoding="utf-8")
        with contextlib.ExitStack() as stack:
            Program(stack, self, "http.server", [sys.executable, "-m", "http.server", "3000", "--bind", "127.0.0.1"])
            deadline = time.monotonic() + 10
            while is_free(3000):
                if time.monotonic() > deadline:
                    raise kit.Failure("python3 -m http.server does not answer")
                time.sleep(0.05)
            self.shows(["node", "-e", BROWSER, CHROMIUM, f"http://127.0.0.1:3000/{file}"])

    def shows(self, command: Any) -> None:
        """Starts a reader and writes rows until it shows one."""
        with contextlib.ExitStack() as stack:
            program = Program(stack, self, command[0], command)
            deadline = time.monotonic() + SHOWN_WITHIN
            names: list[Any] = []
            while not any(name in program.said() for name in names):
                if program.has_ended() or time.monotonic() > deadline:
                    raise kit.Failure(
                        f"it showed no row of {len(names)} that were written while it ran; it said:\n{program.said()[-2000:] or 'nothing'}"
                    )
                self.count += 1
                names.append(f"pet-{self.count}-")
                self.write(names[-1])
                until = time.monotonic() + 1
                while time.monotonic() < until and names[-1] not in program.said():
                    time.sleep(0.02)

    def write(self, name: str) -> None:
        kit.run(
            [self.cluster.psql_program, "-Xq", "-c", f"insert into pets (name, species) values ('{name}', 'cat')"],
            env={**self.cluster.env, "PGDATABASE": "mydb"},
            timeout=BLOCK_WITHIN,
        )

    # ── cookbook.md ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def cookbook(self) -> Any:
        """Every block of SQL, in order, in a database with the clinic's tables."""
        self.cluster.psql("create database clinic")
        url = self.cluster.url.rpartition("/")[0] + "/clinic"
        kit.run([self.cluster.rowcast_program, "migrate"], env={**self.cluster.env, "DATABASE_URL": url})
        for file in ("schema.sql", "seed.sql"):
            kit.run(
                [self.cluster.psql_program, "-Xq", "-v", "ON_ERROR_STOP=1", "-f", ROOT / "sql/clinic" / file],
                env={**self.cluster.env, "PGDATABASE": "clinic"},
            )
        failed = 0
        for title, texts in blocks(ROOT / "docs/guides/cookbook.md").items():
            for language, text in texts:
                if language == "sql":
                    failed += self.step(f"cookbook: {title}", self.sql, text)
        return failed

    def sql(self, text: str) -> None:
        done = subprocess.run(
            [self.cluster.psql_program, "-Xq", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            input=text,
            text=True,
            timeout=BLOCK_WITHIN,
            env={**self.cluster.env, "PGDATABASE": "clinic"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            raise kit.Failure(f"{text}\nended with code {done.returncode}:\n{done.stdout.strip()}")


class Program:
    """A process of the page's reader; ended, with what it started, when the stack ends."""

    def __init__(self, stack: contextlib.ExitStack, page: Any, name: str, command: Any) -> None:
        self._parts: list[Any] = []
        self._name = name
        self._process = subprocess.Popen(
            [str(part) for part in command],
            cwd=page.dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**page.env, "NODE_PATH": str(CLIENT / "node_modules")},
            start_new_session=True,
        )
        stack.callback(self._end)
        threading.Thread(target=self._listen, daemon=True).start()

    def said(self) -> str:
        return "".join(self._parts)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def _listen(self) -> None:
        for part in iter(lambda: os.read(self._process.stdout.fileno(), 65536), b""):
            self._parts.append(part.decode("utf-8", "replace"))

    def _end(self) -> None:
        group = self._process.pid  # its own: it began a session
        for number, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                if number == signal.SIGTERM:
                    continue  # whatever it left behind
                return


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def names_differ() -> Any:
    """Compares what docs/reference/operations.md names with what there is; how many things differ."""
    page = (ROOT / "docs/reference/operations.md").read_text(encoding="utf-8")
    failed = 0

    def check(what: str, there: Any, named: Any) -> None:
        nonlocal failed
        for problem, names in (
            ("not in docs/reference/operations.md", there - named),
            ("in docs/reference/operations.md alone", named - there),
        ):
            if names:
                failed += 1
                print(f"WRONG    {what} {problem}: {', '.join(sorted(map(str, names)))}", flush=True)

    def rows(heading: Any) -> list[Any]:
        section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        lines = re.findall(r"^\|(.+)\|$", section[1] if section else "", re.M)
        return [[cell.strip() for cell in line.replace("\\|", "¦").split("|")] for line in lines]

    source = (ROOT / "src/config/settings.rs").read_text(encoding="utf-8")
    settings = set()
    for body in re.findall(r"Setting \{(.*?)\}", source.partition("SETTINGS: &[Setting]")[2], re.S):
        name = re.search(r'name: "([^"]+)"', body)[1]
        env = re.findall(r'"([^"]+)"', re.search(r"env: &\[(.*?)\]", body, re.S)[1])
        default = re.search(r'default: Some\("([^"]*)"\)', body)
        settings.add((name, " ".join(env), default[1] if default else ""))
    tick = re.compile(r"`([^`]+)`")
    check(
        "setting",
        settings,
        {
            (tick.findall(row[0])[0], " ".join(tick.findall(row[1])), " ".join(tick.findall(row[2])))
            for row in rows("Settings")
            if len(row) == 4 and tick.search(row[0])
        },
    )

    events = set()
    for file in (ROOT / "src").rglob("*.rs"):
        events.update(re.findall(r'event = "([a-z_]+)"', file.read_text(encoding="utf-8")))
    check("event", events, {name for row in rows("The log") for name in tick.findall(row[0])})

    known = {name for row in rows("Metrics") for name in tick.findall(row[0])}
    histograms = {row[0].strip("`") for row in rows("Metrics") if "histogram" in row[1]}
    known_samples = known | {name + suffix for name in histograms for suffix in ("_bucket", "_sum", "_count")}
    grafana = json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))
    alerts = (ROOT / "deploy/alerts.yml").read_text(encoding="utf-8")
    used = {name for text in (*expressions(grafana), alerts) for name in re.findall(r"\browcast_[a-z_]+", text)}
    for name in sorted(used - known_samples):
        failed += 1
        print(f"WRONG    metric of deploy/ that is not in docs/reference/operations.md: {name}", flush=True)
    unused = {name for name in known if not any(sample.startswith(name) for sample in used)}
    print(
        f"{'ok      ' if not failed else 'see     '} names: {len(settings)} settings, {len(events)} events, {len(known)} metrics"
        f" (no panel or alert: {', '.join(sorted(unused)) or 'none'})",
        flush=True,
    )
    return failed


def expressions(part: Any) -> Iterator[Any]:
    """Every text of a dashboard."""
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from expressions(each)
    elif isinstance(part, str):
        yield part


def blocks(path: Path) -> Any:
    """Heading → its fenced blocks, each (language, text)."""
    found: dict[str, list[tuple[str, str]]] = {}
    lines: list[str] = []
    title, language = "", None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("```") and language is None:
            language, lines = line[3:].strip(), []
        elif line.startswith("```"):
            found.setdefault(title, []).append((language, "\n".join(lines)))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            title = line.lstrip("#").strip()
    return found


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def need(what: str, there: Any, how: Any) -> None:
    if not there:
        raise Missing(f"{what} is missing: {how}")


def node_with(*packages: Any) -> None:
    need("Node", shutil.which("node"), "install Node 20 or later")
    for package in packages:
        need(f"the npm package {package}", (CLIENT / "node_modules" / package).is_dir(), "cd client && npm ci")


def python_has_websockets() -> bool:
    if not os.access(VENV / "bin/python3", os.X_OK):
        return False
    done = subprocess.run(
        [VENV / "bin/python3", "-c", "import websockets.asyncio.client"],
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode == 0


def prepare_python() -> None:
    """The venv with websockets; what hinders that is said where it is needed."""
    with contextlib.suppress(OSError, kit.Failure, subprocess.TimeoutExpired):
        if not os.access(VENV / "bin/python3", os.X_OK):
            kit.run([sys.executable, "-m", "venv", VENV], timeout=60)
        if not python_has_websockets():
            kit.run(
                [
                    VENV / "bin/python3",
                    "-m",
                    "pip",
                    "install",
                    "-q",
                    "--disable-pip-version-check",
                    "websockets>=13,<17",
                ],
                timeout=120,
            )


def go_into_own_network() -> None:
    """Runs this program again where no port is taken, if the system lets us."""
    ways = [["--net"]] if os.geteuid() == 0 else [["--user", "--map-current-user", "--keep-caps", "--net"]]
    for way in ways:
        command = ["unshare", *way]
        inside = [*command, sys.executable, "-c", UP]
        with contextlib.suppress(OSError):
            if (
                subprocess.run(
                    inside, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                ).returncode
                == 0
            ):
                again = f"{UP}\nimport os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
                sys.stdout.flush()
                os.execvpe(
                    command[0],
                    [*command, sys.executable, "-c", again, str(ROOT / "tools"), sys.argv[0], *sys.argv[1:]],
                    {**os.environ, INSIDE: "1"},
                )


# Brings up the loopback of a new network: SIOCSIFFLAGS, IFF_UP.
UP = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def give_up(*_: Any) -> None:
    raise kit.Failure(f"given up after {ALL_WITHIN} s")


if __name__ == "__main__":
    kit.main(main)
