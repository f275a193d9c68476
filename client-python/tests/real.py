#!/usr/bin/env python3
"""The Python client against a real rowcast on a private Postgres: what it shows is compared with the tables, over servers
that end and that are killed. Exit code 1 where anything is wrong. The private Postgres comes from tools/harness.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import re
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import cluster as kit
from rowcast import Change, Notification, RowcastError, Subscription, connect

ROOT = Path(__file__).resolve().parent.parent.parent

TABLES = """
create table pets (pet_id bigint primary key, user_id bigint, name text);
create table purses (purse_id bigint primary key, coins bigint);
create table chests (chest_id bigint primary key, coins bigint);
insert into pets select n, n % 3, 'pet ' || n from generate_series(1, 1000) n;
insert into purses values (1, 500); insert into chests values (1, 500)"""
WATCH = """select rowcast.watch('public.pets', user_rule => 'user_id'), rowcast.watch('public.purses'), rowcast.watch('public.chests')"""
MOVE = "begin; update purses set coins = coins - 1; update chests set coins = coins + 1; commit"
IDS = "select coalesce(json_agg(o.id order by o.id), '[]') from rowcast.outbox o join rowcast.channel c on c.id = o.channel and c.name = 'pets'"
SECRET = "a secret of thirty-two characters"
WITHIN = 30.0  # seconds until what was written is shown


class Stage:
    """The database, and the server at one address."""

    def __init__(self, stack: ExitStack, arguments: argparse.Namespace) -> None:
        self.cluster = kit.Cluster(stack, arguments, fsync="off")
        self.cluster.psql(TABLES)
        self.cluster.rowcast("migrate")
        self.cluster.psql(WATCH)
        self.relay = kit.Relay(self.cluster)
        self.port = self.relay.port
        self.url = f"http://127.0.0.1:{self.port}"
        stack.callback(lambda: self.relay.__exit__())

    async def sql(self, *statements: str) -> str:
        return str(await asyncio.to_thread(self.cluster.psql, *statements))

    async def pets(self, where: str = "true") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(await self.sql(f"select coalesce(json_agg(p order by pet_id), '[]') from pets p where {where}"))
        return rows

    async def restart(self, *flags: str, kill: bool = False) -> None:
        await asyncio.to_thread(self.relay.kill if kill else self.relay.__exit__)
        self.relay = await asyncio.to_thread(lambda: kit.Relay(self.cluster, *flags, port=self.port))


async def rows_that_are_told_less_of_are_those_of_the_table(stage: Stage) -> None:
    """The newest change of each row at most so often, and the columns that differ alone, come to the same rows."""
    async with connect(stage.url) as client:
        latest = client.collection("pets", key="pet_id", latest=True, every=100)
        changed = client.collection("pets", key="pet_id", changed=True)
        await latest.ready
        await changed.ready
        for n in range(1, 40):
            await stage.sql(
                f"update pets set name = 'pet {n} now' where pet_id in ({n + 50}, 900)",
                f"delete from pets where pet_id = {2 * n + 100}",
                f"update pets set pet_id = pet_id + 5000 where pet_id = {2 * n + 301}",
            )
        wanted = await stage.pets()
        await until(lambda: by_key(latest.values()) == wanted and by_key(changed.values()) == wanted)


async def rows_are_those_of_the_table(stage: Stage) -> None:
    """A collection is equal to its table, in any moment of the server's life; a row that did not change is the same object."""
    async with connect(stage.url) as client:
        pets = client.collection("pets", key="pet_id")
        await pets.ready
        same(await stage.pets(), by_key(pets.values()))
        first = pets[1]
        await stage.sql("update pets set name = 'Luna' where pet_id = 2; delete from pets where pet_id = 3; update pets set pet_id = 2000 where pet_id = 4")
        await until(lambda: 2000 in pets and 3 not in pets and 4 not in pets)
        await stage.restart(kill=True)
        await stage.sql("insert into pets values (3000, 1, 'Rex'); delete from pets where pet_id = 5")
        await until(lambda: 3000 in pets and 5 not in pets)
        await stage.sql("truncate pets; insert into pets select n, n % 3, 'pet ' || n from generate_series(1, 9) n")
        await until(lambda: len(pets) == 9)
        same(await stage.pets(), by_key(pets.values()))
        same(first, pets[1])
        same("live", client.state)
    same("idle", client.state)


async def a_snapshot_that_is_broken_off_goes_on(stage: Stage) -> None:
    """The connection is lost behind each page, and rows of all pages change: the collection is the table, and none of its
    pages was read anew.
    """
    await stage.sql(
        "create table steps (step_id int primary key, n int not null, note text not null)",
        "insert into steps select n, 0, repeat('x', 30) from generate_series(1, 25000) n", "select rowcast.watch('steps')")
    kinds: list[str] = []
    pages = 0
    async with connect(stage.url) as client:
        steps = client.collection("steps", key="step_id")
        subscription: Any = steps._subscription
        receive = subscription.receive

        def receive_and_hang_up(message: dict[str, Any]) -> None:
            nonlocal pages
            receive(message)
            if not kinds or kinds[-1] != message["type"]:
                kinds.append(message["type"])
            if message["type"] == "snapshot" and not message["last"] and "cursor" in message:
                pages += 1
                stage.cluster.psql("update steps set n = n + 1 where step_id % 100 = 1; delete from steps where step_id in (7, 24999); "
                                   f"insert into steps values (0 - {pages}, 1, ''), (30000 + {pages}, 1, '')")
                client._connections[0]._hang_up()

        subscription.receive = receive_and_hang_up
        subscribed = await subscription.ready
        await steps.ready
        same(True, subscribed.recovered)
        same(True, pages >= 2)
        same(["snapshot", "realtime_update", "subscribed"], [kind for kind in kinds if kind != "heartbeat"][:3])
        rows: list[dict[str, Any]] = json.loads(await stage.sql("select json_agg(s order by step_id) from steps s"))
        await until(lambda: len(steps) == len(rows))
        same(rows, sorted(steps.values(), key=lambda row: row["step_id"]))


async def pages_are_those_of_the_table(stage: Stage) -> None:
    """Page after page, by the last row; what is refused says why."""
    client = connect(stage.url)
    ids, after = [], None
    while True:
        page = await client.rows("pets", order="user_id.desc,name", limit=400, after=after, count=True)
        ids += [row["pet_id"] for row in page.rows]
        same((await stage.sql("select count(*) from pets")).strip(), str(page.count))
        if not page.more:
            break
        after = page.rows[-1]
    expected = json.loads(await stage.sql('select json_agg(pet_id order by user_id desc, name collate "C", pet_id) from pets'))
    same(expected, ids)
    same([("user_id", True), ("name", False), ("pet_id", False)], [(by["column"], by["desc"]) for by in page.order])
    async with connect(stage.url) as follower:
        subscription = follower.subscribe("pets", since=page.cursor, filter="user_id=eq.1")
        same(True, (await subscription.ready).recovered)
    last = await client.rows("pets", before={"pet_id": expected[0]}, limit=1, filter="user_id=is.not_null", columns=["pet_id"])
    same(str(last.rows[0]["pet_id"]), (await stage.sql(f"select max(pet_id) from pets where pet_id < {expected[0]}")).strip())
    for channel, order, code in (("cats", None, "unknown_channel"), ("pets", "wings", "bad_request")):
        try:
            await client.rows(channel, order=order)
        except RowcastError as error:
            same((code, True), (error.code, error.final))
        else:
            raise AssertionError(f"{channel} has an answer")


async def changes_come_once(stage: Stage) -> None:
    """A loop is given each change of the outbox once, over a server that ends and one that is killed, and goes on from its cursor."""
    before = json.loads(await stage.sql(IDS))

    async def take(subscription: Subscription[Change], count: int) -> list[int]:
        ids: list[int] = []
        async for change in subscription:
            ids.append(change.id)
            if len(ids) == count:
                break
        return ids

    async with connect(stage.url) as client:
        with client.subscribe("pets") as subscription:
            await subscription.ready
            taking = asyncio.create_task(take(subscription, 120))
            for number in range(6):
                await stage.sql(f"insert into pets select n, n % 3, 'more' from generate_series({100_000 + 30 * number}, {100_029 + 30 * number}) n")
                if number in (1, 3):
                    await stage.restart(kill=number == 3)
            ids = await asyncio.wait_for(taking, WITHIN)
            cursor = subscription.cursor
    # the last one was in the loop's hands when it was left
    async with connect(stage.url) as client:
        ids[119:] = await asyncio.wait_for(take(client.subscribe("pets", since=cursor), 61), WITHIN)
    same([number for number in json.loads(await stage.sql(IDS)) if number not in before], ids)


async def a_loop_keeps_up(stage: Stage) -> None:
    """A transaction of many times the backlog does not leave a loop behind that waits for nothing."""
    async with connect(stage.url) as client:
        with client.subscribe("pets", backlog=200) as subscription:
            await subscription.ready
            writing = asyncio.create_task(stage.sql("update pets set name = 'x'; insert into pets select n, 1, 'many' from generate_series(10000, 29999) n"))
            seen = 0
            async for change in subscription:
                seen += change.data["name"] == "many"
                if seen == 20_000:
                    break
            await writing


async def cuts_are_whole(stage: Stage) -> None:
    """Coins that move from one table to the other are never seen in both, or in none."""
    async with connect(stage.url) as client:
        purses, chests = client.collection("purses", key="purse_id"), client.collection("chests", key="chest_id")
        await asyncio.gather(purses.ready, chests.ready)
        sums: set[int] = set()
        for each in (purses, chests):
            each.on_change(lambda _: sums.add(purses[1]["coins"] + chests[1]["coins"]))
        for number in range(40):
            await stage.sql(MOVE)
            if number == 20:
                await stage.restart()
        await until(lambda: purses[1]["coins"] == 460)
        same({1000}, sums)


async def users_are_notified(stage: Stage) -> None:
    """A user's notifications come to that user, and to no other."""
    async with connect(stage.url) as client:
        told: list[Notification] = []
        subscription = client.notifications(7, on_change=told.append)
        await subscription.ready
        await stage.sql("insert into pets values (5000, 8, 'Ivy')", "insert into pets values (5001, 7, 'Mia')")
        await until(lambda: bool(told))
        same([("pet_created", "7", "Mia")], [(each.notification_type, each.user_id, each.data["name"]) for each in told])


async def filters_share_a_socket(stage: Stage) -> None:
    """Collections of one channel with different filters each have their rows, over one socket."""
    async with connect(stage.url) as client:
        everything = client.collection("pets", key="pet_id")
        parts = [client.collection("pets", key="pet_id", filter=f"user_id=eq.{user}") for user in range(2)]
        again = client.collection("pets", key="pet_id", filter="user_id=eq.1", columns=["pet_id", "name"])
        await asyncio.wait_for(asyncio.gather(everything.ready, again.ready, *(part.ready for part in parts)), WITHIN)
        same(1, stage.relay.status()["connections"])
        await stage.sql("update pets set user_id = 0 where pet_id = 1; insert into pets values (6000, 1, 'Zoe')")
        await until(lambda: 6000 in everything and 6000 in parts[1] and 6000 in again and 1 not in again)
        for user, part in enumerate(parts):
            same(await stage.pets(f"user_id = {user}"), by_key(part.values()))
        same({"pet_id": 6000, "name": "Zoe"}, again[6000])
        everything.close()
        await stage.sql("insert into pets values (6001, 1, 'Kim')")
        await until(lambda: 6001 in parts[1] and 6001 in again)
        same((False, "live", 1), (6001 in everything, client.state, stage.relay.status()["connections"]))


async def unknown_channels_end(stage: Stage) -> None:
    """What the server refuses ends with its code, and the rest goes on."""
    async with connect(stage.url) as client:
        pets = client.collection("pets", key="pet_id")
        for channel, filter, code in (("cats", None, "unknown_channel"), ("purses", "nothing=eq.1", "bad_filter")):
            try:
                await client.subscribe(channel, filter=filter).ready
                raise kit.Failure(f"{channel} is served")
            except RowcastError as error:
                same((code, True), (error.code, error.final))
        await pets.ready


async def tokens_are_renewed(stage: Stage) -> None:
    """A token that ends is followed by the next one, on the same socket."""
    await stage.sql("select rowcast.allow('pets', 'vet')")
    await stage.restart("--jwt-secret", SECRET, "--jwt-leeway-seconds", "0")
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        # told at half of its life; of a life of three seconds a busy machine has nothing left
        return jwt(600 if asked > 1 else 8)

    async with connect(stage.url, token=token) as client:
        errors: list[str] = []
        pets = client.collection("pets", key="pet_id")
        pets.on_error(lambda error: errors.append(error.code))
        await pets.ready
        ends = time.monotonic() + 10  # beyond the end of the first
        number = 7000
        while time.monotonic() < ends:
            number += 1
            await stage.sql(f"insert into pets values ({number}, 1, 'Tom')")
        await until(lambda: number in pets)
        same((2, []), (asked, errors))
    async with connect(stage.url, token=jwt(600) + "x") as client:
        try:
            await client.subscribe("pets").ready
            raise kit.Failure("a wrong token is believed")
        except RowcastError as error:
            same(("unauthenticated", True), (error.code, error.final))


async def a_token_that_is_cancelled_is_asked_for_again(stage: Stage) -> None:
    asked, errors = 0, []

    async def token() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            refresh = asyncio.ensure_future(asyncio.sleep(9))
            refresh.cancel()
            await refresh
        return ""

    async with connect(stage.url, token=token) as client:
        pets = client.subscribe("pets", on_error=lambda error: errors.append((error.code, error.final)))
        await asyncio.wait_for(pets.ready, WITHIN)
    same([("no_socket", False)], errors)


async def a_client_that_is_woken_and_closed_is_closed(_: Stage) -> None:
    client = connect("http://127.0.0.1:1")
    client.subscribe("pets")
    (connection,) = client._connections
    connection._backoff.next = lambda: 60.0  # type: ignore[method-assign]
    await asyncio.sleep(0.3)  # refused, and in its pause
    client.wake()
    await asyncio.wait_for(client.close(), 5)


async def what_a_listener_raises_is_its_own(stage: Stage) -> None:
    gone = asyncio.get_running_loop().create_future()
    gone.cancel()
    told: list[int] = []
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with connect(stage.url) as client:
        pets = client.subscribe("pets", on_change=lambda change: (told.append(change.id), gone.result()))
        await pets.ready
        await stage.sql("insert into pets values (9100, 1, 'a')", "insert into pets values (9101, 1, 'b')")
        await until(lambda: len(set(told)) == 2)
    same(2, len(told))


async def a_page_that_another_than_the_server_answers_is_no_rows(_: Stage) -> None:
    """It is broken off in the middle, or a proxy refuses it."""
    for answer in (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{", b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"):
        async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(half, "127.0.0.1", 0)
        async with server, connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            try:
                await client.rows("pets")
            except RowcastError as error:
                same(("no_rows", False), (error.code, error.final))
            else:
                raise kit.Failure("half a page is a page")


async def example_of_the_readme_runs(stage: Stage) -> None:
    """The program that README.md shows prints what it says."""
    text = (ROOT / "client-python/README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    program = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", example.replace("http://127.0.0.1:8000", stage.url), stdout=PIPE)
    assert program.stdout is not None
    try:
        first = await asyncio.wait_for(program.stdout.readline(), WITHIN)
        same(True, b"new or changed" in first)
        printed, number = b"", 8000
        while b"created {" not in printed:  # a program that has just subscribed says so to nobody
            number += 1
            await stage.sql(f"insert into pets values ({number}, 7, 'Kim')")
            printed += await asyncio.wait_for(program.stdout.readline(), WITHIN)
        same(True, b"'name': 'Kim'" in printed)
    finally:
        program.kill()
        await program.wait()


TESTS = [rows_that_are_told_less_of_are_those_of_the_table, rows_are_those_of_the_table, a_snapshot_that_is_broken_off_goes_on, pages_are_those_of_the_table, changes_come_once, a_loop_keeps_up,
         cuts_are_whole, users_are_notified, filters_share_a_socket, unknown_channels_end, a_token_that_is_cancelled_is_asked_for_again,
         a_client_that_is_woken_and_closed_is_closed, what_a_listener_raises_is_its_own, a_page_that_another_than_the_server_answers_is_no_rows,
         example_of_the_readme_runs, tokens_are_renewed]


def same(expected: object, got: object) -> None:
    if expected != got:
        raise kit.Failure(f"expected {str(expected)[:500]}\ngot      {str(got)[:500]}")


def by_key(rows: Any) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["pet_id"])


async def until(holds: Callable[[], bool]) -> None:
    """Looks often: a test that waits for one event would not see that others are wrong."""
    deadline = time.monotonic() + WITHIN
    while not holds():
        if time.monotonic() > deadline:
            raise kit.Failure(f"it did not come within {WITHIN:g} s")
        await asyncio.sleep(0.02)


def jwt(seconds: int) -> str:
    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    claims = {"sub": "5", "role": "vet", "exp": int(time.time()) + seconds}
    text = f"{part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{text}.{part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


def main(stack: ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="NAME", help="this test alone")
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    stage = Stage(stack, arguments)
    failed = 0
    for test in [each for each in TESTS if arguments.only in (None, each.__name__)]:
        began = time.monotonic()
        try:
            asyncio.run(asyncio.wait_for(test(stage), 60))
            print(f"ok       {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception as failure:
            failed += 1
            print(f"FAILED   {test.__name__}: {failure!r}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    kit.main(main)
