"""Snapshots."""

from ..failure import Failed
from ..program import Program
from ..socket import Stream
from ..trial import Trial, case


@case("A snapshot in several parts is shown when it is whole, with the changes that followed it, as one event.")
async def snapshot_in_parts(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    program.collection("p", "pets")
    stream = await trial.stream("pets")
    if stream.since or not stream.command.get("snapshot"):
        raise Failed(f"it asks for {stream.command}, not for the rows")
    stream.part({"pet_id": 1}, {"pet_id": 2}).part({"pet_id": 3})
    stream.socket.cut()
    await trial.settle(program)
    program.never("rows", "p", "a part was shown")
    stream.snapshot("1-0", {"pet_id": 4})
    stream.change(1, "1-1", {"pet_id": 1}, "deleted").change(2, "1-2", {"pet_id": 5}, "created")
    stream.subscribed("1-2", replayed=2).socket.cut()
    await program.next("ready", "p")
    await program.shows("p", {"pet_id": 2}, {"pet_id": 3}, {"pet_id": 4}, {"pet_id": 5})
    program.never("rows", "p", "there was more than one event")


@case(
    "A snapshot that a lost connection breaks off begins anew: no place is sent, and what came of the first one is forgotten."
)
async def snapshot_is_interrupted(trial: Trial) -> None:
    program = await trial.start()
    program.collection("p", "pets")
    stream = await trial.stream("pets")
    stream.part({"pet_id": 1}, {"pet_id": 2})
    await stream.socket.close(4408)
    stream = await trial.stream("pets")
    if stream.since or not stream.command.get("snapshot"):
        raise Failed(f"it asks for {stream.command}, not for the rows, without a place")
    stream.part({"pet_id": 2}).snapshot("1-0", {"pet_id": 3}).subscribed("1-0").socket.cut()
    await program.next("ready", "p")
    await program.shows("p", {"pet_id": 2}, {"pet_id": 3})


#: a cursor with a place
PLACE = "1-0~~W10"


async def broken_off(trial: Trial) -> tuple[Program, Stream]:
    """A collection whose connection was lost behind a part with a cursor, and that has come back for the rest or for all."""
    program = await trial.start()
    program.collection("p", "pets")
    stream = await trial.stream("pets")
    stream.part({"pet_id": 1}).part({"pet_id": 2}, cursor=PLACE).part({"pet_id": 3})
    await stream.socket.close(4408)
    stream = await trial.stream("pets")
    command = stream.command
    if not command.get("snapshot") or stream.since not in (None, PLACE):
        raise Failed(f"it asks for {command}, not for the rows, or not with the cursor of the part or without one")
    return program, stream


@case(
    "A snapshot that was broken off behind a part with a cursor: the client goes on with this cursor, keeps what came up "
    "to it, says `partial`, and forgets what came after it; or it begins anew."
)
async def snapshot_goes_on(trial: Trial) -> None:
    program, stream = await broken_off(trial)
    if stream.since and stream.command.get("partial"):
        # pet 5 is in the rows, and its change comes all the same
        stream.part({"pet_id": 4}).snapshot("1-0", {"pet_id": 5}).change(1, "1-1", {"pet_id": 1}, "deleted")
        stream.change(2, "1-2", {"pet_id": 5}, "created").subscribed("1-2", recovered=True, replayed=2)
    else:
        if stream.since:
            stream.gap("bad_cursor")
        stream.snapshot("1-2", {"pet_id": 2}, {"pet_id": 4}, {"pet_id": 5}).subscribed("1-2")
    stream.socket.cut()
    await program.next("ready", "p")
    await program.shows("p", {"pet_id": 2}, {"pet_id": 4}, {"pet_id": 5})
    program.never("rows", "p", "there was more than one event")


@case(
    "Where a snapshot that was broken off cannot go on, the answer is `gap`, and all rows follow: what was kept is forgotten."
)
async def snapshot_cannot_go_on(trial: Trial) -> None:
    program, stream = await broken_off(trial)
    if stream.since:
        stream.gap("policy")
    stream.snapshot("1-2", {"pet_id": 7}).subscribed("1-2").socket.cut()
    await program.next("ready", "p")
    await program.shows("p", {"pet_id": 7})
    stream.socket.drop()
    stream = await trial.stream("pets")
    if stream.since != "1-2":
        raise Failed(f"it asks for {stream.command}: all rows have come, and the position is 1-2")
    stream.subscribed("1-2", recovered=True).socket.cut()


@case(
    "After the last part of a snapshot its cursor is the place: a connection that is lost then costs no other snapshot."
)
async def snapshot_is_whole(trial: Trial) -> None:
    program = await trial.start()
    program.collection("p", "pets")
    stream = await trial.stream("pets")
    stream.snapshot("1-0", {"pet_id": 1}).change(1, "1-1", {"pet_id": 2}, "created")
    await stream.socket.close(1001)
    stream = await trial.stream("pets")
    if stream.since not in ("1-0", "1-1"):
        raise Failed(f"it asks for {stream.command}; the place is 1-0, or 1-1 after the change")
    if stream.since == "1-0":
        stream.change(1, "1-1", {"pet_id": 2}, "created")
    stream.subscribed("1-1", recovered=True).socket.cut()
    await program.next("ready", "p")
    await program.shows("p", {"pet_id": 1}, {"pet_id": 2})


@case("A collection that is read anew when the connection is lost keeps its old rows, and asks for all rows again.")
async def reading_anew_is_interrupted(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1}, {"pet_id": 2})
    stream.gap("failover")
    again = await trial.stream("pets")
    again.part({"pet_id": 7})
    again.socket.drop()
    third = await trial.stream("pets")
    if third.since or not third.command.get("snapshot"):
        raise Failed(f"it asks for {third.command}, not for the rows, without a place")
    if await trial.rows(program, "p") != [{"pet_id": 1}, {"pet_id": 2}]:
        raise Failed("the old rows did not stay")
    third.snapshot("1-9", {"pet_id": 8}).subscribed("1-9").socket.cut()
    await program.shows("p", {"pet_id": 8})


@case(
    "Rows that are too long come as their key alone, in a part of their own that says `omitted`: the collection shows these."
)
async def snapshot_omits(trial: Trial) -> None:
    program = await trial.start()
    program.collection("p", "pets")
    stream = await trial.stream("pets")
    stream.part({"pet_id": 1, "name": "Luna"}).part({"pet_id": 2}, omitted="row_bytes").snapshot("1-0").subscribed(
        "1-0"
    ).socket.cut()
    await program.next("ready", "p")
    await program.shows("p", {"pet_id": 1, "name": "Luna"}, {"pet_id": 2})


@case("A table without rows, or a channel without a table, is an empty collection that is ready.")
async def snapshot_is_empty(trial: Trial) -> None:
    program = await trial.start()
    await trial.collection(program, "p", "pets")
    if await trial.rows(program, "p"):
        raise Failed("it has rows")
