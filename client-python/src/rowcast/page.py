"""A page of a channel's current rows, as the server answers it over HTTP. Follows nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from .error import RowcastError
from .messages import Row

#: Seconds: the server gives a statement ten, and others may come first.
ANSWER_WITHIN = 60.0
#: Statuses as codes of `RowcastError`; any other one is `no_rows`, and passes.
REFUSED = {400: "bad_request", 401: "unauthenticated", 403: "forbidden", 404: "unknown_channel"}


@dataclass(frozen=True)
class Page:
    """Some rows of a channel, in an order."""

    rows: list[Row]
    #: rows lie behind them; with `before`, before them
    more: bool
    #: the whole order: `column`, `type`, `desc`, `nulls` of each column
    order: list[dict[str, Any]]
    #: where the rows were read: a subscription goes on from there by `since`
    cursor: str
    #: how many rows there are, where that was asked for
    count: int | None = None
    #: whether they were counted; else it is an estimate
    exact: bool = False


async def read_page(base: str, channel: str, asked: Mapping[str, str | list[str] | None], token: str | None) -> Page:
    """Asks the server at `base`, such as `https://live.example.com`, for a page."""
    query = urlencode({name: value for name, value in asked.items() if value}, doseq=True)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = Request(f"{base}/rows/{quote(channel, safe='')}?{query}", headers=headers)
    return await asyncio.to_thread(_read, request)


def _read(request: Request) -> Page:
    try:
        with urlopen(request, timeout=ANSWER_WITHIN) as answer:
            return _page(json.load(answer), answer.headers)
    except HTTPError as refusal:
        # without the header a proxy, or an application, has answered in the server's place
        code = REFUSED.get(refusal.code, "no_rows") if "rowcast-code" in refusal.headers else "no_rows"
        try:
            text = refusal.read().decode(errors="replace").strip()
        except (OSError, HTTPException):
            text = str(refusal)
        raise RowcastError(code, text, code != "no_rows") from refusal
    except (OSError, HTTPException, ValueError, TypeError) as error:
        # also where it was broken off in the middle, or a proxy answered in the server's place
        raise RowcastError("no_rows", repr(error), False) from error


def _page(rows: list[Row], headers: Message) -> Page:
    count = headers["Rowcast-Count"]
    return Page(rows, headers["Rowcast-More"] == "true", json.loads(headers["Rowcast-Order"]), headers["Rowcast-Cursor"],
                int(count.removeprefix("~")) if count else None, bool(count) and not count.startswith("~"))
