"""Several subscriptions of one channel."""

from contextlib import suppress

from ..failure import Failed
from ..program import Program
from ..socket import Stream
from ..trial import Trial, case

ONE, TWO = "user_id=eq.1", "user_id=eq.2"


async def two(trial: Trial, program: Program) -> tuple[Stream, Stream]:
    """Collections one and two of pets, with a filter each."""
    return (
        await trial.collection(program, "one", "pets", {"pet_id": 1}, filter=ONE),
        await trial.collection(program, "two", "pets", {"pet_id": 2}, filter=TWO),
    )


@case(
    "Subscriptions of one channel with different filters have different views, and go over one socket; each gets its own messages."
)
async def two_filters_on_a_socket(trial: Trial) -> None:
    program = await trial.start()
    one, two_ = await two(trial, program)
    if one.socket is not two_.socket:
        raise Failed("they have a socket each")
    one.change(10, "1-1", {"pet_id": 11}, "entered")
    two_.change(11, "1-2", {"pet_id": 12}, "entered")
    one.socket.cut()
    await program.shows("one", {"pet_id": 1}, {"pet_id": 11})
    await program.shows("two", {"pet_id": 2}, {"pet_id": 12})


@case("After a lost connection each view resumes with a place of its own.")
async def views_resume(trial: Trial) -> None:
    program = await trial.start()
    one, two_ = await two(trial, program)
    one.change(10, "1-1", {"pet_id": 11}, "entered").socket.cut()
    await program.shows("one", {"pet_id": 1}, {"pet_id": 11})
    places = {ONE: "1-1", TWO: "pets-0"}
    await trial.end_sockets(1006)
    for _ in range(2):
        stream = await trial.stream("pets")
        asked = stream.command["filter"]
        text = asked if isinstance(asked, str) else asked[0]
        if stream.since != places.pop(text):
            raise Failed(f"the view with {text} resumes since {stream.since}")


@case("A view that is closed is left, and no other one of its channel.")
async def one_view_is_closed(trial: Trial) -> None:
    program = await trial.start()
    one, two_ = await two(trial, program)
    program.do("close", name="one")
    await trial.server.until(lambda: one.is_left or one.socket.is_closed or None, "the view is not left")
    if two_.is_left:
        raise Failed("the other view is left too")
    two_.change(11, "1-2", {"pet_id": 12}, "entered").socket.cut()
    await program.shows("two", {"pet_id": 2}, {"pet_id": 12})


@case("A `gap` of a view is of that view alone: it is read anew, and no other one is.")
async def gap_of_a_view(trial: Trial) -> None:
    program = await trial.start()
    one, two_ = await two(trial, program)
    one.gap("unreadable")
    again = await trial.stream("pets")
    again.snapshot("1-1", {"pet_id": 11}).subscribed("1-1")
    again.socket.cut()
    await program.shows("one", {"pet_id": 11})
    if two_.is_left:
        raise Failed("the other view was left")


@case("An error about a view ends that one, and no other one of its channel.")
async def error_of_a_view(trial: Trial) -> None:
    program = await trial.start()
    one, two_ = await two(trial, program)
    one.lose("bad_filter")
    await program.next("error", "one", code="bad_filter", final=True)
    two_.change(11, "1-2", {"pet_id": 12}, "entered").socket.cut()
    await program.shows("two", {"pet_id": 2}, {"pet_id": 12})
    program.never("error", "two", "the other one was told an error")


@case("The same asked for twice is told twice.")
async def same_view_twice(trial: Trial) -> None:
    program = await trial.start()
    program.subscribe("a", "pets", filter=ONE)
    streams = [await trial.stream("pets")]
    program.subscribe("b", "pets", filter=ONE)
    with suppress(Failed):  # a client may share one subscription between them
        streams.append(await trial.stream("pets", within=3))
    for stream in streams:
        stream.subscribed("1-0").change(1, "1-1", {"pet_id": 1})
    await program.change("a", 1)
    await program.change("b", 1)


@case("The whole channel and a part of it are two subscriptions.")
async def whole_channel_and_a_part(trial: Trial) -> None:
    program = await trial.start()
    whole = await trial.subscribe(program, "whole", "pets")
    part = await trial.subscribe(program, "part", "pets", filter=ONE)
    whole.change(1, "1-1", {"pet_id": 1}).change(2, "1-2", {"pet_id": 2})
    part.change(2, "1-2", {"pet_id": 2})
    await program.change("whole", 1, 2)
    await program.change("part", 2)
    program.do("close", name="whole")
    await trial.server.until(lambda: whole.is_left or whole.socket.is_closed or None, "the whole channel is not left")
    part.change(3, "1-3", {"pet_id": 2})
    await program.change("part", 3)


@case("Two readers of a user's notifications are both told. Notifications have no view, so a socket has a user once.")
async def user_twice(trial: Trial) -> None:
    program = await trial.start()
    program.do("notifications", name="a", user="1")
    streams = [await trial.stream("user/1")]
    program.do("notifications", name="b", user="1")
    with suppress(Failed):  # a client may share one subscription between them
        streams.append(await trial.stream("user/1", within=3))
    if len({stream.socket for stream in streams}) < len(streams):
        raise Failed("one socket has the user twice")
    for stream in streams:
        stream.subscribed("1-0").notification(1, "1-1", {"pet_name": "Luna"})
    await program.change("a", 1)
    await program.change("b", 1)


@case("Clients that ask for the same give the view the same name, so that the server writes its messages once.")
async def view_names_are_equal(trial: Trial) -> None:
    names = set()
    for _ in range(2):
        program = await trial.start()
        program.subscribe("other", "pets", filter=TWO)
        await trial.stream("pets")
        program.subscribe("a", "pets", filter=ONE)
        names.add((await trial.stream("pets")).command.get("view"))
    if len(names) > 1:
        raise Failed(f"the same view is called {' and '.join(map(str, names))}")
