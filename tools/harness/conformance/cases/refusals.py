"""Errors of the server, and its limits."""

import asyncio

from ..failure import Failed
from ..trial import Trial, case


@case(
    "A `subscribe` that is answered with {code} ends this subscription with an error that is final, and no other one.",
    code=["unknown_channel", "bad_filter", "forbidden", "too_many_views"],
)
async def answer_is(trial: Trial, code: str) -> None:
    program = await trial.start()
    users = await trial.subscribe(program, "users", "users")
    program.subscribe("pets", "pets", filter="user_id=eq.1")
    (await trial.stream("pets")).refuse(code)
    await program.next("error", "pets", code=code, final=True)
    users.change(1, "1-1", {"pet_id": 1})
    await program.change("users", 1)
    program.never("error", "users", "the other one was told an error")


@case(
    "A subscription that was fine, and of which the server says {code}, ends with an error that is final, and no other one does.",
    code=["bad_filter", "forbidden"],
)
async def lost_with(trial: Trial, code: str) -> None:
    program = await trial.start()
    users = await trial.subscribe(program, "users", "users")
    pets = await trial.subscribe(program, "pets", "pets")
    pets.lose(code)
    await program.next("error", "pets", code=code, final=True)
    users.change(1, "1-1", {"pet_id": 1})
    await program.change("users", 1)
    program.never("error", "users", "the other one was told an error")


@case(
    "A channel that was there, and of which the server says {way}, may be there again: the client says an error that is not final, and"
    " asks for the channel again, not sooner than after 5 s.",
    is_long=True,
    way=["unknown_channel", "4404"],
)
async def gone_for_now(trial: Trial, way: str) -> None:
    loop = asyncio.get_running_loop()
    program = await trial.start()
    pets = await trial.subscribe(program, "pets", "pets")
    if way == "4404":
        await pets.socket.close(4404, "its table is no longer watched")
        pets = await trial.stream("pets")
        pets.refuse("unknown_channel")
    else:
        pets.lose("unknown_channel")
    await program.next("error", "pets", code="unknown_channel", final=False)
    gone = loop.time()
    again = await trial.stream("pets", within=20)
    if loop.time() - gone < 5:
        raise Failed(f"it was asked for again after {loop.time() - gone:.1f} s")
    again.subscribed("1-9").change(1, "1-10", {"pet_id": 1})
    await program.change("pets", 1)


@case("A collection whose rows cannot be read ends with the error `no_snapshot`; it does not pass for an empty table.")
async def rows_cannot_be_read(trial: Trial) -> None:
    program = await trial.start()
    await trial.subscribe(program, "users", "users")
    program.collection("p", "pets")
    stream = await trial.stream("pets")
    ref = {"ref": stream.command["ref"]} if "ref" in stream.command else {}
    stream.say("error", code="no_snapshot", message="not this one", **ref).subscribed("1-0")
    stream.socket.cut()
    await program.next("error", "p", code="no_snapshot", final=True)
    program.never("ready", "p", "it is ready")


@case("Commands that were `rate_limited` are sent again, and not before `retry_after`.")
async def commands_are_too_many(trial: Trial) -> None:
    loop = asyncio.get_running_loop()
    program = await trial.start()
    first = await trial.subscribe(program, "a", "pets")
    program.subscribe("b", "users")
    stream = await trial.stream("users")
    said = loop.time()
    stream.refuse("rate_limited", retry_after=1)
    again = await trial.stream("users")
    if loop.time() - said < 0.9:
        raise Failed(f"the command came again after {loop.time() - said:.2f} s; the server said 1 s")
    again.subscribed("1-0").change(1, "1-1", {"pet_id": 1})
    await program.change("b", 1)
    first.change(2, "2-2", {"pet_id": 2})
    await program.change("a", 2)


@case("A subscription beyond the limit of a socket (`too_many_subscriptions`) goes over another socket.")
async def socket_is_full(trial: Trial) -> None:
    program = await trial.start()
    await trial.subscribe(program, "a", "pets")
    program.subscribe("b", "users")
    (await trial.stream("users")).refuse("too_many_subscriptions")
    again = await trial.stream("users")
    again.subscribed("1-0").change(1, "1-1", {"pet_id": 1})
    await program.change("b", 1)


@case("`source_down` is an error that is not final: nothing is lost, and what follows says that the database is back.")
async def database_is_away(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    stream.say("error", code="source_down", message="the database is away")
    await program.next("error", "a", code="source_down", final=False)
    stream.heartbeat("1-1").change(1, "1-2", {"pet_id": 1})
    await program.change("a", 1)
    if len(trial.server.sockets) > 1:
        raise Failed("it opened another socket")


@case("The state of the client says how things stand: connecting, live, source_down, live, connecting, live, idle.")
async def state_is_told(trial: Trial) -> None:
    program = await trial.start(states=True)
    stream = await trial.subscribe(program)
    stream.say("error", code="source_down", message="the database is away").heartbeat("1-1")
    for state in ("connecting", "live", "source_down", "live"):
        await program.next("state", state=state)
    stream.socket.drop()
    (await trial.stream("pets")).subscribed("1-1", recovered=True)
    for state in ("connecting", "live"):
        await program.next("state", state=state)
    program.do("close")
    await program.next("state", state="idle")
