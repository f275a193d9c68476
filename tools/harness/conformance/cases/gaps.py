"""Gaps: what a client does where changes may be missing."""

from ..failure import Failed
from ..trial import Trial, case

REASONS: list[object] = ["retention", "failover", "bad_cursor", "policy", "trigger_off", "unreadable", "of_tomorrow"]


@case(
    "A `gap`, {reason}, in answer to a place is told to the application, once the stream is live; the old place is given up.",
    reason=REASONS,
)
async def answer_to_a_place_is(trial: Trial, reason: str) -> None:
    program = await trial.start()
    program.subscribe("a", "pets", since="1-7")
    stream = await trial.stream("pets")
    # it may follow a part of what was missed
    stream.change(8, "1-8", {"pet_id": 8}).gap(reason).subscribed("1-20").change(21, "1-21", {"pet_id": 21})
    await program.next("resync", "a", reason=reason)
    await program.change("a", 8, 21)
    stream.socket.drop()
    stream = await trial.stream("pets")
    if stream.since != "1-21":
        raise Failed(f"it resumes since {stream.since}, not since 1-21")


@case(
    "A `gap`, {reason}, in the middle of the stream makes a collection read its rows anew; the old ones stay until the new ones are "
    "whole, and one event tells the difference.",
    reason=REASONS,
)
async def collection_in_the_stream(trial: Trial, reason: str) -> None:
    program = await trial.start()
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1}, {"pet_id": 2}, {"pet_id": 3})
    stream.gap(reason).change(1, "1-1", {"pet_id": 9}, "created").socket.cut()
    again = await trial.stream("pets")
    if again.since or not again.command.get("snapshot"):
        raise Failed(f"it asks for {again.command}, not for the rows, without a place")
    again.part({"pet_id": 1}, {"pet_id": 2, "name": "new"})
    again.socket.cut()
    if await trial.rows(program, "p") != [{"pet_id": 1}, {"pet_id": 2}, {"pet_id": 3}]:
        raise Failed("it shows the new rows before they are whole")
    again.snapshot("1-2", {"pet_id": 4}).subscribed("1-2").socket.cut()
    event = await program.shows("p", {"pet_id": 1}, {"pet_id": 2, "name": "new"}, {"pet_id": 4})
    if event["removed"] != [{"pet_id": 3}]:
        raise Failed(f"the event says that {event['removed']} are gone, not row 3")


@case("A `gap` in the middle of the stream is told at once where no rows were asked for, and the stream goes on.")
async def subscription_in_the_stream(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    stream.change(1, "1-1", {"pet_id": 1}).gap("failover")
    await program.next("resync", "a", reason="failover")
    stream.change(2, "1-2", {"pet_id": 2})
    await program.change("a", 1, 2)
    program.never("resync", "a", "the gap was told twice")


@case(
    "A `gap` in answer to the place of a collection is followed by the rows: the client replaces what it shows, and does not ask again."
)
async def collection_comes_back(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1}, {"pet_id": 2})
    stream.socket.drop()
    stream = await trial.stream("pets")
    if stream.since != "pets-0" or not stream.command.get("snapshot"):
        raise Failed(f"it asks for {stream.command}, not for what was missed, and for the rows if it cannot be told")
    stream.gap("retention").snapshot("1-5", {"pet_id": 2}, {"pet_id": 3}).subscribed("1-5").socket.cut()
    await program.shows("p", {"pet_id": 2}, {"pet_id": 3})
    if stream.is_left:
        raise Failed("it asked again")


@case("A subscription that asked for the rows gets them again after a `gap`.")
async def subscription_with_rows(trial: Trial) -> None:
    program = await trial.start()
    program.subscribe("a", "pets", snapshot=True)
    stream = await trial.stream("pets")
    stream.snapshot("1-1", {"pet_id": 1}).subscribed("1-1")
    await program.next("snapshot", "a", rows=[{"pet_id": 1}])
    stream.gap("unreadable")
    await program.next("resync", "a", reason="unreadable")
    again = await trial.stream("pets")
    again.snapshot("1-2", {"pet_id": 2}).subscribed("1-2").change(3, "1-3", {"pet_id": 3})
    await program.next("snapshot", "a", rows=[{"pet_id": 2}])
    await program.change("a", 3)


@case(
    "After the policy of a channel has changed, `gap` and a `subscribed` come that answer no command: a subscription goes on, and a "
    "collection reads anew."
)
async def policy_has_changed(trial: Trial) -> None:
    program = await trial.start()
    users = await trial.subscribe(program, "u", "users")
    pets = await trial.collection(program, "p", "pets", {"pet_id": 1})
    users.gap("policy").say("subscribed", cursor="2-0", recovered=False, replayed=0).change(1, "2-1", {"pet_id": 1})
    await program.next("resync", "u", reason="policy")
    await program.change("u", 1)
    pets.gap("policy").say("subscribed", cursor="2-0", recovered=False, replayed=0)
    again = await trial.stream("pets")
    again.snapshot("2-2", {"pet_id": 2}).subscribed("2-2").socket.cut()
    await program.shows("p", {"pet_id": 2})
