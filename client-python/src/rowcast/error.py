"""What the application is told when something goes wrong, and what happens to errors of the application's own."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class RowcastError(Exception):
    """What went wrong. `code` is what a program asks for: a code of an `error` message of the server, or one of
    `bad_request`, `forbidden`, `unauthenticated` (close codes, or statuses of a page), `no_rows` (a page cannot be had now), `no_socket` (no token could be had), `bad_frame` (what
    came is no message of a server), `behind` (an iterator was read too slowly), `closed`.
    """

    def __init__(self, code: str, message: str, final: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        #: The subscription has ended. Otherwise it goes on, and this is news.
        self.final = final


def attempt(listener: Callable[[T], object], value: T) -> None:
    """Calls the application. The event loop logs what it raises, and nobody else misses anything for it."""
    try:
        listener(value)
    except (Exception, asyncio.CancelledError) as error:  # a listener is no task: nobody has cancelled this one
        asyncio.get_running_loop().call_exception_handler({"message": "a listener of rowcast failed", "exception": error})
