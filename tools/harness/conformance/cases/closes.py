"""Close codes, and connections that end without one."""

import asyncio
import http

from ..failure import Failed
from ..server import AT_ONCE
from ..trial import Trial, case

#: Seconds after which a client that stays away is believed to.
AWAY = 5.0
#: A client that comes back without growing pauses makes more attempts in so many seconds.
LONG = 6.0
MOST_ATTEMPTS = 12


@case(
    "After {code} the client comes back and resumes each channel with its place: it shows every change once.",
    code=[1000, 1001, 1006, 1011, 1012, 4408, 4429, 4503, 4999],
)
async def resumes_after(trial: Trial, code: int) -> None:
    program = await trial.start()
    pets = await trial.subscribe(program, "pets", "pets")
    users = await trial.subscribe(program, "users", "users", since="users-then")
    # the second place lies inside a cut, and the connection ends there
    pets.change(1, "pets-1.11", {"pet_id": 1}).change(2, "pets-1.12", {"pet_id": 2})
    users.change(3, "users-1", {"pet_id": 3})
    await program.change("pets", 1, 2)
    await program.change("users", 3)
    await trial.end_sockets(code)
    pets, users = await trial.stream("pets"), await trial.stream("users")
    for stream, place in ((pets, "pets-1.12"), (users, "users-1")):
        if stream.since != place:
            raise Failed(f"{stream.channel} is resumed since {stream.since}; the last change was at {place}")
    pets.change(4, "pets-2", {"pet_id": 4}).subscribed("pets-2", recovered=True, replayed=1).change(
        5, "pets-3", {"pet_id": 5}
    )
    users.subscribed("users-2", recovered=True)
    await program.change("pets", 4, 5)
    program.never("error", "pets", "a connection that is lost is no error")


@case(
    "After {code} the client stops: it says an error that is final, and opens no other socket.",
    is_long=True,
    code=[4400, 4403],
)
async def gives_up_after(trial: Trial, code: int) -> None:
    program = await trial.start(token="one")
    stream = await trial.subscribe(program)
    await stream.socket.close(code, "because of a reason")
    names = {4400: "bad_request", 4403: "forbidden"}
    await program.next("error", "a", code=names[code], final=True)
    await trial.stays_away(AWAY, f"the client came back after {code}")


@case(
    "After {code}, again and again, the client comes back with growing, random pauses, or gives up; it does not hammer.",
    is_long=True,
    code=[1002, 1006, 1007, 1009, 4408, 4429, 4503],
)
async def does_not_hammer_after(trial: Trial, code: int) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    trial.server.code = code
    await stream.socket.close(code)
    await asyncio.sleep(LONG)
    if (count := trial.server.attempts - 1) > MOST_ATTEMPTS:
        raise Failed(f"it tried {count} times in {LONG:g} s")


@case("The clients of a server that went down come back spread out, not all at once.", is_long=True)
async def pauses_are_random(trial: Trial) -> None:
    loop = asyncio.get_running_loop()
    programs = await asyncio.gather(*(trial.start() for _ in range(5)))
    for program in programs:
        await trial.subscribe(program)
    # pauses of half a second are close together by chance, once in a hundred times or so; three times in a row they are not
    for _ in range(3):
        before = list(trial.server.sockets)[-len(programs) :]
        await asyncio.gather(*(socket.close(1001) for socket in before))
        ended = loop.time()
        times = []
        for _ in before:
            await trial.stream("pets")
            times.append(loop.time() - ended)
        if times[-1] - times[0] >= 0.1:
            return
    raise Failed(f"three times all came back within 0.1 s, at last within {times[-1] - times[0]:.3f} s")


@case("A server that is killed and comes back at the same address is found again, and nothing is missed.")
async def server_is_killed(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    stream.change(1, "1-1", {"pet_id": 1})
    await program.change("a", 1)
    await trial.server.vanish()
    await asyncio.sleep(0.5)
    await trial.server.listen()
    stream = await trial.stream("pets")
    if stream.since != "1-1":
        raise Failed(f"it resumes since {stream.since}, not since 1-1")
    stream.change(2, "1-2", {"pet_id": 2}).subscribed("1-2", recovered=True)
    await program.change("a", 2)


@case("A proxy that answers 502 in the server's place is no end: the client tries again.")
async def proxy_answers(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    trial.server.status = http.HTTPStatus.BAD_GATEWAY
    await stream.socket.close(1001)
    await trial.server.until(lambda: True if trial.server.attempts > 1 else None, "the client did not come back", 20)
    trial.server.status = None
    await trial.stream("pets")


@case(
    "A frame that is not JSON comes from something in between: the client leaves this socket, and resumes on another one."
)
async def frame_is_no_json(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    stream.change(1, "1-1", {"pet_id": 1})
    await program.change("a", 1)
    stream.socket.raw("<html>please log in</html>")
    again = await trial.stream("pets")
    if again.since != "1-1":
        raise Failed(f"it resumes since {again.since}, not since 1-1")
    await trial.server.until(lambda: stream.socket.is_closed or None, "the client keeps the first socket open")


@case(
    "A socket on which nothing is heard is given up after three heartbeats at most (the program is told their interval, 15 s), "
    "and the client resumes on another one.",
    is_long=True,
)
async def network_is_gone(trial: Trial) -> None:
    program = await trial.start(heartbeat_seconds=15)
    stream = await trial.subscribe(program)
    stream.change(1, "1-1", {"pet_id": 1})
    await program.change("a", 1)
    stream.socket.silence()
    again = await trial.stream("pets", within=45 + 5)
    if again.since != "1-1":
        raise Failed(f"it resumes since {again.since}, not since 1-1")


@case("A client that is closed closes its socket, and stays away.")
async def client_is_closed(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    program.do("close")
    await trial.server.until(lambda: stream.socket.is_closed or None, "the client did not close its socket")
    await trial.stays_away(AWAY, "the client came back after it was closed")


@case("The server's WebSocket pings are answered.")
async def pings_are_answered(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    try:
        await asyncio.wait_for(await stream.socket.connection.ping(), AT_ONCE)
    except TimeoutError:
        raise Failed("no pong came") from None


@case("A message of 9 MB, as long as a row may be, is taken.")
async def message_is_long(trial: Trial) -> None:
    program = await trial.start()
    stream = await trial.subscribe(program)
    stream.change(1, "1-1", {"pet_id": 1, "name": "x" * 9_000_000})
    await program.change("a", 1)
