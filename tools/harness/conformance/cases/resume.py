"""Places: where a client goes on, and that nothing is told twice."""

from functools import partial

from ..failure import Failed
from ..socket import Stream
from ..trial import Trial, case


def has_left(stream: Stream) -> bool | None:
    return stream.is_left or stream.socket.is_closed or None


def came(stream: Stream, since: str | None) -> None:
    if stream.since != since:
        raise Failed(f"{stream.channel} is asked for since {stream.since}, not since {since}")


@case(
    "A place that the application has kept is sent as `since`; what was missed since then is told, and then the stream."
)
async def application_has_kept_a_place(trial: Trial) -> None:
    program = await trial.start()
    program.subscribe("a", "pets", since="1-7")
    stream = await trial.stream("pets")
    came(stream, "1-7")
    stream.change(8, "1-8", {"pet_id": 8}).subscribed("1-8", recovered=True, replayed=1).change(9, "1-9", {"pet_id": 9})
    await program.change("a", 8, 9)
    await program.next("ready", "a")
    program.do("cursor", name="a")
    await program.next("answer", "a", cursor="1-9")


@case(
    "The cursor of a `{kind}` is a place: the client goes on there.",
    kind=["subscribed", "heartbeat", "realtime_update"],
)
async def place_is_of(trial: Trial, kind: str) -> None:
    program = await trial.start()
    await trial.watch(program)
    stream = await trial.subscribe(program)
    if kind == "heartbeat":
        stream.heartbeat("1-hb")
    elif kind == "realtime_update":
        stream.heartbeat("1-hb").change(1, "1-rt", {"pet_id": 1})
    await trial.settle(program)
    stream.socket.drop()
    came(await trial.stream("pets"), {"subscribed": "pets-0", "heartbeat": "1-hb", "realtime_update": "1-rt"}[kind])


@case(
    "A connection that is lost in the middle of a replay: the client goes on after the last change that it was given, and tells "
    "none twice."
)
async def replay_is_interrupted(trial: Trial) -> None:
    program = await trial.start()
    program.subscribe("a", "pets", since="1-0")
    stream = await trial.stream("pets")
    stream.change(1, "1-9.11", {"pet_id": 1}).change(2, "1-9.12", {"pet_id": 2})
    await program.change("a", 1, 2)
    stream.socket.drop()
    stream = await trial.stream("pets")
    came(stream, "1-9.12")
    stream.change(3, "1-9.13", {"pet_id": 3})
    await program.change("a", 3)
    await stream.socket.close(4408)
    stream = await trial.stream("pets")
    came(stream, "1-9.13")
    stream.subscribed("1-9", recovered=True)
    await program.next("ready", "a")
    program.never("change", "a", "a change was told twice")


@case(
    "A connection that is lost before `subscribed`, and before any change, is no progress: the client asks for the same."
)
async def lost_before_subscribed(trial: Trial) -> None:
    program = await trial.start()
    program.subscribe("a", "pets", since="1-7")
    stream = await trial.stream("pets")
    stream.socket.drop()
    came(await trial.stream("pets"), "1-7")


@case("A collection that was whole resumes with its place, and reads nothing anew.")
async def collection_resumes(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.collection(program, "p", "pets", {"pet_id": 1})
    stream.change(1, "1-1", {"pet_id": 2}, "created").socket.cut()
    await program.shows("p", {"pet_id": 1}, {"pet_id": 2})
    stream.socket.drop()
    stream = await trial.stream("pets")
    came(stream, "1-1")
    stream.change(2, "1-2", {"pet_id": 3}, "created").subscribed("1-2", recovered=True, replayed=1).socket.cut(
        cursor="1-2"
    )
    await program.shows("p", {"pet_id": 1}, {"pet_id": 2}, {"pet_id": 3})


@case("A notification, and its place, belong to the channel of the user.")
async def notifications(trial: Trial) -> None:
    program = await trial.start()
    program.do("notifications", name="n", user="123")
    stream = await trial.stream("user/123")
    stream.subscribed("1-0").notification(1, "1-1", {"pet_name": "Luna"})
    event = await program.next("change", "n")
    if event["change"].get("notification_type") != "pet_created" or event["change"].get("data") != {"pet_name": "Luna"}:
        raise Failed(f"the notification is {event['change']}")
    stream.socket.drop()
    came(await trial.stream("user/123"), "1-1")


@case("A type and a field that the client does not know are passed over, and an action that it does not know is told.")
async def unknown_things(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets = await trial.collection(program, "p", "pets", {"pet_id": 1})
    users = await trial.subscribe(program, "u", "users")
    users.say("of_tomorrow", cursor_of_tomorrow="1-9").change(
        1, "1-1", {"price": 7}, "price", field_of_tomorrow={"a": [1]}
    )
    pets.change(2, "1-2", {"price": 7}, "price").socket.send({"type": "of_tomorrow"})
    pets.socket.cut()
    event = await program.next("change", "u")
    if event["change"].get("action") != "price" or event["change"].get("data") != {"price": 7}:
        raise Failed(f"the change is {event['change']}")
    await trial.settle(program)
    program.never("rows", "p", "the collection changed")
    if pets.socket.is_closed:
        raise Failed("the client left the socket")


@case("The name of a channel, and the id of a user, may have a space: they are joined and left under their own names.")
async def names_have_spaces(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    pets = await trial.subscribe(program, "a", "old pets")
    program.do("notifications", name="n", user="Ann Lee")
    ann = (await trial.stream("user/Ann Lee")).subscribed("1-0").notification(1, "1-1", {"pet_name": "Luna"})
    await program.change("n", 1)
    for name, stream in (("a", pets), ("n", ann)):
        program.do("close", name=name)
        await trial.server.until(partial(has_left, stream), f"{stream.channel} is not left")


@case("Of two subscriptions one is closed: the client leaves it, and the other one goes on.")
async def one_of_two_is_closed(trial: Trial) -> None:
    program = await trial.start()
    pets = await trial.subscribe(program, "pets", "pets")
    users = await trial.subscribe(program, "users", "users")
    program.do("close", name="pets")
    await trial.server.until(lambda: pets.is_left or pets.socket.is_closed or None, "pets is not left")
    users.change(1, "1-1", {"pet_id": 1})
    await program.change("users", 1)


@case("A subscription that is closed and asked for again begins anew; what still came for the first one is not told.")
async def closed_and_asked_for_again(trial: Trial) -> None:
    program = await trial.start()
    await trial.watch(program)
    first = await trial.subscribe(program, "a", "pets")
    program.do("close", name="a")
    program.subscribe("b", "pets")
    first.change(1, "1-1", {"pet_id": 1})
    second = await trial.stream("pets")
    second.subscribed("1-1").change(2, "1-2", {"pet_id": 2})
    await program.change("b", 2)
