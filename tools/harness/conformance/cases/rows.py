"""What a change does to the rows of a collection."""

from ..failure import Failed
from ..trial import Trial, case


@case(
    "Rows are created, updated and deleted; with a filter `entered` is as good as `created`, and `left` as `deleted`."
)
async def rows_come_and_go(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(
        program, "p", "pets", {"pet_id": 1, "name": "Luna"}, {"pet_id": 2, "name": "Rex"}, filter="user_id=eq.7"
    )
    if stream.command.get("filter") not in ("user_id=eq.7", ["user_id=eq.7"]):
        raise Failed(f"it asks with filter {stream.command.get('filter')}")
    stream.change(10, "1-1", {"pet_id": 3, "name": "Mia"}, "created").change(11, "1-2", {"pet_id": 1, "name": "Lune"})
    stream.change(12, "1-3", {"pet_id": 2, "name": "Rex"}, "deleted").socket.cut()
    await program.shows("p", {"pet_id": 1, "name": "Lune"}, {"pet_id": 3, "name": "Mia"})
    stream.change(20, "1-4", {"pet_id": 4, "name": "Ivy"}, "entered").change(
        21, "1-5", {"pet_id": 3, "name": "Mia"}, "left"
    ).socket.cut()
    await program.shows("p", {"pet_id": 1, "name": "Lune"}, {"pet_id": 4, "name": "Ivy"})


@case("A row whose primary key changed moves: `old` has the key as it was.")
async def key_moves(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1, "name": "Luna"}, {"pet_id": 2, "name": "Rex"})
    stream.change(10, "1-1", {"pet_id": 7, "name": "Luna"}, changed=["pet_id"], old={"pet_id": 1}).socket.cut()
    event = await program.shows("p", {"pet_id": 7, "name": "Luna"}, {"pet_id": 2, "name": "Rex"})
    if event["removed"] != [{"pet_id": 1, "name": "Luna"}]:
        raise Failed(f"the event says that {event['removed']} are gone")


@case("Keys that pass through each other in one transaction (1 → 2, 2 → 3, 3 → 1) keep every row.")
async def keys_pass_through_each_other(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(
        program, "p", "pets", *({"pet_id": key, "name": name} for key, name in enumerate("abc", 1))
    )
    stream.change(10, "1-1", {"pet_id": 2, "name": "a"}, changed=["pet_id"], old={"pet_id": 1})
    stream.change(11, "1-2", {"pet_id": 3, "name": "b"}, changed=["pet_id"], old={"pet_id": 2})
    stream.change(12, "1-3", {"pet_id": 1, "name": "c"}, changed=["pet_id"], old={"pet_id": 3}).socket.cut()
    await program.shows("p", {"pet_id": 1, "name": "c"}, {"pet_id": 2, "name": "a"}, {"pet_id": 3, "name": "b"})


@case("A row that takes a key before the row that had it is deleted, in one transaction, stays.")
async def key_is_taken_over(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1, "name": "old"})
    stream.change(10, "1-1", {"pet_id": 1, "name": "new"}, "created").change(
        11, "1-2", {"pet_id": 1, "name": "old"}, "deleted"
    ).socket.cut()
    await program.shows("p", {"pet_id": 1, "name": "new"})
    stream.change(20, "1-3", {"pet_id": 1, "name": "new"}, "deleted").socket.cut()
    await program.shows("p")


@case("A key may have several columns.")
async def key_has_two_columns(trial: Trial) -> None:
    program = await trial.start()
    first = {"clinic": "a", "pet_id": 1}
    stream = await trial.collection(program, "p", "pets", first, {"clinic": "b", "pet_id": 1}, key=["clinic", "pet_id"])
    stream.change(10, "1-1", {"clinic": "c", "pet_id": 1}, changed=["clinic"], old=first).socket.cut()
    await program.shows("p", {"clinic": "b", "pet_id": 1}, {"clinic": "c", "pet_id": 1})


@case("`truncated` empties a collection; what is inserted after it in the same transaction is there.")
async def table_is_truncated(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1}, {"pet_id": 2})
    stream.change(10, "1-1", None, "truncated").change(11, "1-2", {"pet_id": 2}, "created").socket.cut()
    await program.shows("p", {"pet_id": 2})
    stream.change(20, "1-3", None, "truncated").socket.cut()
    await program.shows("p")


@case("A change of a row that is too long says `omitted` and has its key alone: the application is told that.")
async def change_omits(trial: Trial) -> None:
    program = await trial.start()
    users = await trial.subscribe(program, "u", "users")
    pets = await trial.collection(program, "p", "pets", {"pet_id": 1, "name": "Luna"})
    users.change(1, "1-1", {"pet_id": 1}, changed=[], omitted="row_bytes")
    event = await program.next("change", "u")
    if event["change"].get("omitted") != "row_bytes" or event["change"].get("data") != {"pet_id": 1}:
        raise Failed(f"the change is {event['change']}")
    pets.change(2, "1-2", {"pet_id": 1}, changed=[], omitted="row_bytes").socket.cut()
    await program.shows("p", {"pet_id": 1})


@case(
    "What was asked for with `columns` and `old` goes to the server, and `changed` and `old` come to the application."
)
async def columns_and_old(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program, columns=["pet_id", "name"], old=True)
    if stream.command.get("columns") != ["pet_id", "name"] or stream.command.get("old") is not True:
        raise Failed(f"it asks with {stream.command}")
    stream.change(1, "1-1", {"pet_id": 1, "name": "Lune"}, changed=["name"], old={"name": "Luna"})
    event = await program.next("change", "a")
    if event["change"].get("changed") != ["name"] or event["change"].get("old") != {"name": "Luna"}:
        raise Failed(f"the change is {event['change']}")
