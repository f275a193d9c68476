"""The Python client as a program that tests/conformance can test: see the README there for the lines that it reads and prints."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import rowcast
from rowcast import Collection, RowcastError, Subscription


def say(kind: str, **fields: Any) -> None:
    print(json.dumps({"is": kind, **fields}), flush=True)


class Driver:
    def __init__(self, url: str) -> None:
        self.url = url
        self.client = rowcast.connect(url)
        self.collections: dict[str, Collection] = {}
        self.subscriptions: dict[str, Subscription[Any]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def obey(self, do: str, command: dict[str, Any]) -> None:
        name, channel = command.pop("name", ""), command.pop("channel", "")
        if do == "connect":
            tokens = command.get("tokens")
            self.client = rowcast.connect(self.url, token=asking(tokens) if tokens else command.get("token"))
            if command.get("states"):
                self.client.on_state(lambda state: say("state", state=state))
        elif do == "subscribe":
            handlers = {**self.handlers(name), "on_snapshot": lambda rows: say("snapshot", name=name, rows=rows)}
            self.subscriptions[name] = self.client.subscribe(channel, **command, **handlers)
        elif do == "notifications":
            self.subscriptions[name] = self.client.notifications(command.pop("user"), **command, **self.handlers(name))
        elif do == "collection":
            self.collect(name, self.client.collection(channel, **command))
        elif do == "rows":
            say("answer", name=name, rows=list(self.collections[name].values()))
        elif do == "cursor":
            say("answer", name=name, cursor=self.subscriptions[name].cursor)
        elif do == "close" and name:
            (self.subscriptions.get(name) or self.collections[name]).close()
        elif do == "close":
            self.start(self.client.close())
        else:
            say("unsupported", what=do)

    def handlers(self, name: str) -> dict[str, Any]:
        return {
            "on_change": lambda change: say("change", name=name, change={k: v for k, v in asdict(change).items() if v is not None}),
            "on_ready": lambda _: say("ready", name=name),
            "on_resync": lambda reason: say("resync", name=name, reason=reason),
            "on_error": lambda error: self.wrong(name, error),
        }

    def collect(self, name: str, collection: Collection) -> None:
        self.collections[name] = collection
        collection.on_change(lambda difference: say(
            "rows", name=name, set=list(difference.set.values()), removed=list(difference.removed.values()),
            rows={name: list(each.values()) for name, each in self.collections.items()}))
        collection.on_error(lambda error: self.wrong(name, error))

        async def wait() -> None:
            try:
                await collection.ready
                say("ready", name=name)
            except RowcastError:
                pass  # the event has told

        self.start(wait())

    def wrong(self, name: str, error: RowcastError) -> None:
        say("error", name=name, code=error.code, final=error.final, message=error.message)

    def start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def asking(tokens: list[str]) -> Callable[[], Any]:
    async def ask() -> str:
        return tokens.pop(0) if len(tokens) > 1 else tokens[0]

    return ask


async def main(url: str) -> None:
    driver = Driver(url)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        command = json.loads(line)
        driver.obey(command.pop("do"), command)
    await driver.client.close()


asyncio.run(main(sys.argv[1]))
