"""Types what the READMEs of examples/ say, each on a database of its own, writes a row with psql, and looks at the screen or at
what is printed. Exit code 1 where anything is wrong. What is fetched is kept in target/examples and target/machinery.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from harness import cluster as kit
from harness.machinery.stage import Database, Stage, Wrong
from harness.machinery.tools import Missing, fetched, installed, python
from harness.repository import ROOT
from harness.websocket import WebSocket

from .readme import TYPED_WITHIN, Example
from .screen import Screen

AT_ONCE = 3  # they wait for npm, pip and a browser
SECRET = "a secret that only this test knows"


def has_node() -> None:
    """Node with npm, of a version that the client is for."""
    try:
        version = kit.output(["node", "--version"]).strip()
    except FileNotFoundError:
        raise Missing("node is missing: install Node 20 or later, see https://nodejs.org") from None
    if int(version.lstrip("v").partition(".")[0]) < 20:
        raise Missing(f"node is {version}: version 20 or later is needed")


def react_list(stack: ExitStack, database: Database) -> str:
    has_node()
    if not (ROOT / "client/node_modules").is_dir():
        fetched(["npm", "ci", "--no-audit", "--no-fund", "--silent"], "npm packages", cwd=ROOT / "client")
    example = Example(stack, database, "react-list")
    example.state()
    example.start().says(f"http://127.0.0.1:{example.port}", TYPED_WITHIN)
    screen = Screen(stack)
    screen.open(example.url)
    screen.shows("0 pets")
    example.write()
    screen.shows("1 pets Luna")
    database.sql("update pets set name = 'Nala'", "insert into pets (name) values ('Kira')")
    screen.shows("2 pets Kira Nala")
    return "a row written by psql is in the list, one that is changed is changed there"


def bell(stack: ExitStack, database: Database) -> str:
    example = Example(stack, database, "bell")
    example.state()
    example.start().says("Serving HTTP")
    screen = Screen(stack)
    screen.open(example.url)
    screen.shows("nothing new")
    database.sql("insert into visits (user_id, pet) values (8, 'Rex')")
    example.write()
    screen.shows("1 new visit")
    screen.shows("Luna")
    if "Rex" in screen.text():
        raise Wrong("the bell of user 7 rings for user 8")
    screen.click("#bell")
    screen.shows("nothing new")
    return "it rings for user 7 alone, until it is read"


def token_proxy(stack: ExitStack, database: Database) -> str:
    has_node()
    example = Example(stack, database, "token-proxy", {"ROWCAST_JWT_SECRET": SECRET})
    example.state()
    example.start().says("open http")
    ann, bob = Screen(stack), Screen(stack)
    ann.open(example.url)
    ann.shows("log in")
    for screen, user in ((ann, 7), (bob, 8)):
        screen.open(f"{example.url}login?user={user}")
        screen.shows("0 of mine")
    example.write()
    ann.shows("1 of mine 1 Luna")
    bob.shows("1 of mine 2 Rex")
    seen = ann.text() + bob.text()
    if "Rex" in ann.text() or "Luna" in bob.text() or "2760" in seen:
        raise Wrong(f"a policy does not hold: {seen!r}")
    return "each sees the rows of its own, without the column that is not granted"


def rendered_page(stack: ExitStack, database: Database) -> str:
    has_node()
    example = Example(stack, database, "rendered-page")
    example.state()
    example.start().says("open http", TYPED_WITHIN)
    with urllib.request.urlopen(example.url, timeout=10) as answer:
        page = answer.read().decode()
    cursor = re.search(r'data-cursor="(1[\w-]+~-)"', page)
    if "Rex" not in page or not cursor:
        raise Wrong(f"the server does not render it:\n{page}")
    # between the answer and the socket
    example.write()
    told: list[dict[str, Any]] = []
    socket = WebSocket("127.0.0.1", database.relay.port, f"/ws/pets?since={cursor[1]}")
    socket.send(json.dumps({"type": "sync", "cursor": database.sql("select rowcast.cursor()").strip()}))
    while not told or told[-1]["type"] != "synced":
        told += [json.loads(message) for message in socket.feed(socket.sock.recv(65536))]
        if socket.closed:
            raise Wrong(f"the socket is closed: {socket.closed}")
    socket.close()
    changes = [message["data"]["name"] for message in told if message["type"] == "realtime_update"]
    if changes != ["Luna"]:
        raise Wrong(f"behind the page comes {told}")
    screen = Screen(stack)
    screen.open(example.url)
    screen.shows("Rex Luna")
    database.sql("update pets set name = 'Nala' where name = 'Luna'")
    screen.shows("Rex Nala")
    screen.click("#add")
    screen.shows("Kira is saved, and one of 3")
    return "what is written behind the page follows it, and what was saved is there when the page says so"


def python_consumer(stack: ExitStack, database: Database) -> str:
    example = Example(stack, database, "python-consumer")
    example.state()
    consumer = example.start()
    consumer.says("ready", TYPED_WITHIN)
    example.write()
    consumer.says("created {'pet_id': 1, 'name': 'Luna'}")
    consumer.end()
    database.sql("insert into pets (name) values ('Nala')")
    again = example.run("exec venv/bin/python consumer.py")
    again.says("created {'pet_id': 2, 'name': 'Nala'}")
    if "Luna" in again.printed():
        raise Wrong("what was dealt with comes again")
    return "a row written by psql is printed, and what was written while it was away"


def django_writer(stack: ExitStack, database: Database) -> str:
    example = Example(stack, database, "django-writer", {"PATH": f"{python().parent}:{database.env['PATH']}"})
    example.type()
    example.state()
    return written(example, "pets-pet", "DJANGO_SETTINGS_MODULE=settings python -B write.py", "pets_pet")


def rails_writer(stack: ExitStack, database: Database) -> str:
    installed("ruby-activerecord", "ruby-pg")
    example = Example(stack, database, "rails-writer")
    example.type()
    example.state()
    return written(example, "pets", "ruby -W0 write.rb", "pets")


def written(example: Example, channel: str, command: str, table: str) -> str:
    """What an application writes is printed in order; what it rolls back is not. So is what psql writes."""
    if f"`{command.replace(' -B', '')}`" not in example.readme:
        raise Wrong(f"examples/{example.name}/README.md does not say {command}")
    reader = example.follow(channel)
    example.database.tool(["sh", "-euc", command], cwd=example.folder, env=example._env)
    times = ", now(), now()" if channel == "pets" else ""
    columns = ", created_at, updated_at" if times else ""
    example.database.sql(f"insert into {table} (name, weight{columns}) values ('of psql', 0{times})")
    reader.says("of psql")
    printed = reader.printed()
    actions = [word.partition('"')[0] for word in printed.split('"action":"')[1:]]
    if (
        actions != ["created"] * 4 + ["updated", "deleted", "created"]
        or '"weight":5' not in printed
        or "Never" in printed
    ):
        raise Wrong(f"{actions}, and:\n{printed[-1500:]}")
    return f"{len(actions)} changes of the application and of psql are told in order, what is rolled back is not"


EXAMPLES: dict[str, Callable[[ExitStack, Database], str]] = {
    "react-list": react_list,
    "python-consumer": python_consumer,
    "django-writer": django_writer,
    "rails-writer": rails_writer,
    "token-proxy": token_proxy,
    "rendered-page": rendered_page,
    "bell": bell,
}
FLAGS = {"token-proxy": ("--jwt-secret", SECRET)}


def main(stack: ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(EXAMPLES), metavar="NAME,…", help="these examples (default: all)")
    parser.add_argument("--trace", action="store_true", help="show where a failure came from")
    kit.add_arguments(parser)
    parser.set_defaults(rowcast=ROOT / "target/debug/rowcast")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := [name for name in chosen if name not in EXAMPLES]:
        parser.error(f"--only: there is no {', '.join(unknown)}; there are {', '.join(EXAMPLES)}")
    there = {file.name for file in (ROOT / "examples").iterdir() if file.is_dir()}
    if there != set(EXAMPLES):
        print(f"WRONG   tried: {sorted(EXAMPLES)}; in examples/: {sorted(there)}")
        return 1
    stage = Stage(stack, arguments, "")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return int(any(list(pool.map(lambda name: one(stage, name, arguments.trace), chosen))))


def one(stage: Stage, name: str, trace: bool) -> bool:
    """Tries an example and prints its line; whether it failed."""
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            database = stage.database(stack, name.replace("-", "_"))
            database.install()
            database.start(*FLAGS.get(name, ()))
            try:
                said = EXAMPLES[name](stack, database)
            except Wrong as wrong:
                log = database.relay.warnings()[-1500:]
                raise Wrong(f"{wrong}\n  the server's log: {log or 'nothing'}") from wrong
    except Missing as missing:
        fails = os.environ.get("CI") == "true"
        print(f"{'WRONG  ' if fails else 'skipped'} {name}: {missing}", flush=True)
        return fails
    except (Wrong, kit.Failure, OSError, subprocess.TimeoutExpired) as failure:
        print(f"WRONG   {name}: {failure or type(failure).__name__}", flush=True)
        if trace:
            traceback.print_exc(file=sys.stdout)
        return True
    print(f"ok      {name} ({time.monotonic() - began:.1f} s): {said}", flush=True)
    return False


if __name__ == "__main__":
    kit.main(main)
