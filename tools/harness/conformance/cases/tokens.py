"""Tokens. A program that is told `tokens` has a function that gives them, one after the other, the last one for ever."""

from ..failure import Failed
from ..program import Program
from ..socket import Message, Socket, Stream
from ..trial import Trial, case

#: Seconds until a token ends that has to be renewed.
SOON = 6


def brought(socket: Socket, token: str) -> None:
    if socket.token != token:
        raise Failed(f"the socket was opened with token {socket.token}, not with {token}")


async def renewed(trial: Trial, stream: Stream, token: str) -> Message:
    """The token of the socket ends soon: the `auth` that the client sends."""
    tokens = stream.socket.tokens
    stream.socket.send({"type": "token_expiring", "expires_in": SOON})
    command = await trial.server.until(lambda: tokens.pop(0) if tokens else None, "the client sent no auth", SOON)
    if command["token"] != token:
        raise Failed(f"it sends token {command['token']}, not {token}")
    return command


async def live(trial: Trial, program: Program, token: str) -> Stream:
    await trial.watch(program)
    stream = await trial.subscribe(program)
    brought(stream.socket, token)
    return stream


@case("The token goes along with the handshake: as a subprotocol, in a header or in the query.")
async def token_goes_along(trial: Trial) -> None:
    program = await trial.start(token="a.b.c")
    await live(trial, program, "a.b.c")


@case(
    "After `token_expiring` the next token is sent with `auth` on the open socket, before the first one ends; nothing is interrupted."
)
async def token_is_renewed(trial: Trial) -> None:
    program = await trial.start(tokens=["one", "two", "three"])
    stream = await live(trial, program, "one")
    for token in ("two", "three"):
        command = await renewed(trial, stream, token)
        ref = {"ref": command["ref"]} if "ref" in command else {}
        stream.socket.send({"type": "authenticated", "role": "owner", "expires_in": SOON, **ref})
    stream.change(1, "1-1", {"pet_id": 1})
    await program.change("a", 1)
    if len(trial.server.sockets) > 1:
        raise Failed("it opened another socket")


@case("A token that is a text is the only one: after `token_expiring` nothing is sent, and 4401 is the end.")
async def token_is_a_text(trial: Trial) -> None:
    program = await trial.start(token="one")
    stream = await live(trial, program, "one")
    stream.socket.send({"type": "token_expiring", "expires_in": 2})
    await trial.settle(program)
    await stream.socket.close(4401, "the token has expired")
    await program.next("error", "a", code="unauthenticated", final=True)
    await trial.stays_away(3, "the client came back with the same token")
    if stream.socket.tokens:
        raise Failed("it sent auth")


@case("After 4401 a client that can have another token says an error that is not final, and comes back with that one.")
async def token_has_expired(trial: Trial) -> None:
    program = await trial.start(tokens=["one", "two"])
    stream = await live(trial, program, "one")
    stream.change(1, "1-1", {"pet_id": 1})
    await program.change("a", 1)
    await stream.socket.close(4401, "the token has expired")
    await program.next("error", "a", code="unauthenticated", final=False)
    again = await trial.stream("pets")
    brought(again.socket, "two")
    if again.since != "1-1":
        raise Failed(f"it resumes since {again.since}, not since 1-1")


@case(
    "A next token that is not believed is an error that is not final: the first one goes on to its end, and after 4401 a third one follows."
)
async def token_is_not_believed(trial: Trial) -> None:
    program = await trial.start(tokens=["one", "two", "three"])
    stream = await live(trial, program, "one")
    command = await renewed(trial, stream, "two")
    ref = {"ref": command["ref"]} if "ref" in command else {}
    stream.socket.send({"type": "error", "code": "unauthenticated", "message": "the signature is wrong", **ref})
    await program.next("error", "a", code="unauthenticated", final=False)
    stream.change(1, "1-1", {"pet_id": 1})
    await program.change("a", 1)
    await stream.socket.close(4401, "the token has expired")
    brought((await trial.stream("pets")).socket, "three")
