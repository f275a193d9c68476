"""A case, and the stage on which it is played: a server of its own, and the program."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .failure import Failed, Unsupported
from .program import Program
from .server import BACK, Server
from .socket import Stream

#: Seconds for a case; then it has failed, whatever hangs.
CASE_WITHIN = 150.0


@dataclass(frozen=True)
class Case:
    name: str
    #: what the client must do
    sentence: str
    play: Callable[[Trial], Awaitable[None]]
    #: takes long: begun first
    is_long: bool = False


CASES: list[Case] = []


def case(
    sentence: str, *, is_long: bool = False, **values: list[object]
) -> Callable[[Callable[..., Awaitable[None]]], None]:
    """Makes a case of a function; of one with `name=[…]` a case for each of these values, as its argument of that name.
    The sentence may say `{name}`.
    """

    def register(play: Callable[..., Awaitable[None]]) -> None:
        if not values:
            CASES.append(Case(play.__name__, sentence, play, is_long))
        for argument, all_of_them in values.items():
            for value in all_of_them:

                async def with_value(trial: Trial, argument: str = argument, value: object = value) -> None:
                    await play(trial, **{argument: value})

                CASES.append(
                    Case(f"{play.__name__}_{value}", sentence.format(**{argument: value}), with_value, is_long)
                )

    return register


class Trial:
    """What a case has."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._began = time.monotonic()
        self._programs: list[Program] = []
        #: what was said, oldest first
        self.story: list[str] = []
        self.server = Server(self.note, self.check)
        self._marks: Stream | None = None
        self._mark = 1000

    def note(self, text: str) -> None:
        self.story.append(f"{time.monotonic() - self._began:6.2f} s  {text}")

    async def start(self, **fields: object) -> Program:
        """A program that is told to connect."""
        program = await Program.start(self._command, self.server.url, self.note, self.server.changed)
        self._programs.append(program)
        program.connect(**fields)
        return program

    def check(self) -> None:
        """Raises where a program has ended, or does not support what it was told."""
        for program in self._programs:
            program.check()

    async def stream(self, channel: str, within: float = BACK) -> Stream:
        return await self.server.stream(channel, within)

    async def subscribe(self, program: Program, name: str = "a", channel: str = "pets", **fields: object) -> Stream:
        """A subscription that is live, at place `{channel}-0`."""
        program.subscribe(name, channel, **fields)
        stream = await self.stream(channel)
        stream.subscribed(f"{channel}-0")
        await program.next("ready", name)
        return stream

    async def collection(
        self, program: Program, name: str, channel: str, *rows: dict[str, object], **fields: object
    ) -> Stream:
        """A collection that is live and shows these rows, at place `{channel}-0`."""
        program.do("collection", name=name, channel=channel, **{"key": "pet_id", **fields})
        stream = await self.stream(channel)
        stream.snapshot(f"{channel}-0", *rows).subscribed(f"{channel}-0")
        stream.socket.cut()
        await program.next("ready", name)
        if rows:
            await program.shows(name, *rows)
        return stream

    async def watch(self, program: Program) -> None:
        """Lets `settle` be called: subscribes to the channel marks."""
        program.subscribe("marks", "marks")
        self.follow((await self.stream("marks")).subscribed("marks-0"))
        await program.next("ready", "marks")

    def follow(self, marks: Stream) -> None:
        """The subscription of marks has come back on another socket."""
        self._marks = marks

    async def settle(self, program: Program) -> None:
        """Waits until the client has taken all that was sent: what is sent last comes last."""
        assert self._marks is not None
        self._mark += 1
        self._marks.change(self._mark, f"marks-{self._mark}", {"pet_id": self._mark})
        await program.change("marks", self._mark)

    async def end_sockets(self, code: int) -> None:
        """Closes every socket with a code, or drops it: 1006."""
        await asyncio.gather(*(socket.close(code) for socket in self.server.sockets if not socket.is_closed))

    async def rows(self, program: Program, name: str) -> list[dict[str, object]]:
        """What a collection shows now."""
        program.do("rows", name=name)
        event = await program.next("answer", name)
        return sorted(event["rows"], key=str)

    async def stays_away(self, seconds: float, why: str) -> None:
        """The client opens no other socket for so long."""
        count = self.server.attempts
        try:
            await self.server.until(lambda: True if self.server.attempts > count else None, "", seconds)
        except Failed:
            return
        raise Failed(why)

    async def end(self) -> None:
        await asyncio.gather(*(program.end() for program in self._programs))
        await self.server.vanish()


@dataclass(frozen=True)
class Verdict:
    case: Case
    #: `ok`, `FAILED`, `skipped`
    word: str
    why: str
    seconds: float
    story: list[str]


async def judge(case: Case, command: list[str]) -> Verdict:
    """Plays a case."""
    began = time.monotonic()
    trial = Trial(command)
    word, why = "ok", ""
    try:
        await trial.server.listen()
        async with asyncio.timeout(CASE_WITHIN):
            await case.play(trial)
        trial.check()
        if trial.server.mistakes:
            raise Failed("; ".join(trial.server.mistakes))
    except Unsupported as unsupported:
        word, why = "skipped", f"the program does not support {unsupported}"
    except TimeoutError:
        word, why = "FAILED", f"not done within {CASE_WITHIN:g} s"
    except Failed as failed:
        word, why = "FAILED", str(failed)
    except Exception as error:  # a defect of the case, or an event of a shape that README.md does not have
        word, why = "FAILED", repr(error)
    finally:
        await trial.end()
    return Verdict(case, word, why, time.monotonic() - began, trial.story)
