"""Whole transactions: a collection shows the database as it was at one moment."""

import asyncio

from ..failure import Failed
from ..program import Program
from ..socket import Stream
from ..trial import Trial, case


async def two(trial: Trial, program: Program) -> tuple[Stream, Stream]:
    """Collections p and u of one socket, with a row each."""
    return (
        await trial.collection(program, "p", "pets", {"pet_id": 1, "v": 1}),
        await trial.collection(program, "u", "users", {"pet_id": 1, "v": 1}),
    )


async def expect(trial: Trial, program: Program, p: int, u: int, why: str) -> None:
    shown = [(await trial.rows(program, name))[0]["v"] for name in ("p", "u")]
    if shown != [p, u]:
        raise Failed(f"{why}: it shows {shown}, not {[p, u]}")


@case("A collection changes at a `cut` alone: half a transaction is never shown, and a whole one is one event.")
async def half_a_transaction(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1})
    stream.change(1, "1-1", {"pet_id": 1}, "deleted").change(2, "1-2", {"pet_id": 2}, "created")
    await trial.settle(program)
    program.never("rows", "p", "half a transaction was shown")
    stream.change(3, "1-3", {"pet_id": 3}, "created")
    stream.socket.cut(cursor="1-3")
    event = await program.shows("p", {"pet_id": 2}, {"pet_id": 3})
    if event["removed"] != [{"pet_id": 1}] or len(event["set"]) != 2:
        raise Failed(f"the event is {event}")


@case(
    "What a cut says of two channels is shown together: a listener that is told of one collection finds the other one of the same moment."
)
async def cut_over_two_channels(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets, users = await two(trial, program)
    pets.change(1, "1-1", {"pet_id": 1, "v": 2})
    await trial.settle(program)
    users.change(2, "1-2", {"pet_id": 1, "v": 2})
    await trial.settle(program)
    await expect(trial, program, 1, 1, "before the cut")
    pets.socket.cut()
    for name in ("p", "u"):
        event = await program.next("rows", name)
        shown = [event["rows"][other][0]["v"] for other in ("p", "u")]
        if shown != [2, 2]:
            raise Failed(f"as {name} was told, p and u showed {shown}")


@case(
    "The end of a cut on one channel (`last`, or `cut` with a `channel`) is not the end of the cut: collections wait for that of the socket."
)
async def end_on_one_channel(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets, users = await two(trial, program)
    if not pets.socket.cuts:
        raise Failed("the client has not asked the socket for cuts: its collections cannot agree")
    pets.change(1, "1-1", {"pet_id": 1, "v": 2}, last=True)
    users.change(2, "1-2", {"pet_id": 1, "v": 2}).cut("1-3")
    await trial.settle(program)
    await expect(trial, program, 1, 1, "before the cut of the socket")
    pets.socket.cut()
    await program.shows("p", {"pet_id": 1, "v": 2})
    await program.shows("u", {"pet_id": 1, "v": 2})
    users.socket.drop()
    if (again := await trial.stream("users")).since != "1-3":
        raise Failed(f"users is resumed since {again.since}; the end of the cut was at 1-3")


@case("While a collection is read anew the others wait for it: they do not show a later moment beside its old rows.")
async def cut_while_another_is_read_anew(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets, users = await two(trial, program)
    pets.gap("unreadable")
    again = await trial.stream("pets")
    users.change(1, "1-1", {"pet_id": 1, "v": 2}).socket.cut()
    await trial.settle(program)
    await expect(trial, program, 1, 1, "while pets is read anew")
    again.snapshot("1-1", {"pet_id": 1, "v": 2}).subscribed("1-1")
    await trial.settle(program)
    again.socket.cut()
    event = await program.next("rows")
    shown = [event["rows"][other][0]["v"] for other in ("p", "u")]
    if shown != [2, 2]:
        raise Failed(f"p and u showed {shown}")


@case(
    "While a collection is read anew the others wait as long as its rows come, also where a slow line needs long for them.",
    is_long=True,
)
async def cut_while_rows_come_slowly(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets, users = await two(trial, program)
    pets.gap("unreadable")
    again = await trial.stream("pets")
    for number in range(2, 6):
        users.change(number, f"1-{number}", {"pet_id": 1, "v": number}).socket.cut()
        again.part({"pet_id": number, "v": 1})
        await trial.settle(program)
        await expect(trial, program, 1, 1, "while rows of pets come")
        await asyncio.sleep(4)
    again.snapshot("1-5", {"pet_id": 1, "v": 5}).subscribed("1-5").socket.cut()
    event = await program.next("rows")
    shown = [next(row["v"] for row in event["rows"][other] if row["pet_id"] == 1) for other in ("p", "u")]
    if shown != [5, 5]:
        raise Failed(f"p and u showed {shown}")


@case(
    "Where nothing comes of a collection that is read anew, the others are shown after ten seconds, and not only at the next cut.",
    is_long=True,
)
async def cut_that_nothing_follows(trial: Trial) -> None:
    program = await trial.start()
    pets, users = await two(trial, program)
    pets.gap("unreadable")
    await trial.stream("pets")
    users.change(1, "1-1", {"pet_id": 1, "v": 2}).socket.cut()
    await program.next("rows", "u", within=40)
    await expect(trial, program, 1, 2, "ten seconds later")


@case("A collection that is closed while its rows come holds up the others no longer.")
async def one_that_was_waited_for_is_closed(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets, users = await two(trial, program)
    pets.gap("unreadable")
    again = await trial.stream("pets")
    # taken before: what comes behind the cut would begin another one
    await trial.settle(program)
    users.change(1, "1-1", {"pet_id": 1, "v": 2}).socket.cut()
    again.part({"pet_id": 1, "v": 2})
    # all before it was taken
    again.socket.send({"type": "error", "code": "hello", "message": "nobody's"})
    await program.next("error", "u")
    program.do("close", name="p")
    await program.shows("u", {"pet_id": 1, "v": 2})


@case("A row that says true where it said 1 is another one, also when it is read anew.")
async def true_is_not_one(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1, "v": 1})
    stream.gap("policy")
    again = await trial.stream("pets")
    again.snapshot("1-1", {"pet_id": 1, "v": True}).subscribed("1-1").socket.cut()
    event = await program.next("rows", "p")
    if event["rows"]["p"][0]["v"] is not True:
        raise Failed(f"it shows {event['rows']['p']}")


@case("After a lost connection collections wait until all of them have joined again.")
async def cut_before_all_have_joined_again(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets, users = await two(trial, program)
    await trial.end_sockets(1006)
    pets, users, marks = await trial.stream("pets"), await trial.stream("users"), await trial.stream("marks")
    trial.follow(marks.subscribed("marks-1", recovered=True))
    users.change(1, "1-1", {"pet_id": 1, "v": 2}).subscribed("1-1", recovered=True, replayed=1).socket.cut()
    await trial.settle(program)
    await expect(trial, program, 1, 1, "before pets has joined again")
    pets.change(2, "1-2", {"pet_id": 1, "v": 2}).subscribed("1-2", recovered=True, replayed=1).socket.cut()
    event = await program.next("rows")
    shown = [event["rows"][other][0]["v"] for other in ("p", "u")]
    if shown != [2, 2]:
        raise Failed(f"p and u showed {shown}")


@case("A collection that is read anew, and ends with an error, holds up the others no longer.")
async def one_that_was_waited_for_ends(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets, users = await two(trial, program)
    pets.gap("policy")
    again = await trial.stream("pets")
    users.change(1, "1-1", {"pet_id": 1, "v": 2}).socket.cut()
    again.refuse("forbidden")
    await program.next("error", "p", code="forbidden", final=True)
    await program.shows("u", {"pet_id": 1, "v": 2})


@case("A transaction that is broken off by a lost connection is shown when the rest of it has come.")
async def cut_after_a_lost_connection(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1})
    stream.change(1, "1-9.11", {"pet_id": 1}, "deleted")
    await trial.settle(program)
    await trial.end_sockets(1006)
    stream = await trial.stream("pets")
    if stream.since != "1-9.11":
        raise Failed(f"it resumes since {stream.since}, not since 1-9.11")
    program.never("rows", "p", "half a transaction was shown")
    if await trial.rows(program, "p") != [{"pet_id": 1}]:
        raise Failed("half a transaction was shown")
    marks = await trial.stream("marks")
    marks.subscribed("marks-1", recovered=True)
    stream.change(2, "1-9", {"pet_id": 2}, "created").subscribed("1-9", recovered=True, replayed=1).socket.cut()
    await program.shows("p", {"pet_id": 2})
