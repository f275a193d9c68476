"""Prints each change of pets once, also over restarts of this program."""

import asyncio
from pathlib import Path

from rowcast import connect

CURSOR = Path("cursor")


async def main() -> None:
    since = CURSOR.read_text() if CURSOR.exists() else None
    async with connect("http://127.0.0.1:8000") as client:
        pets = client.subscribe(
            "pets",
            since=since,
            on_ready=lambda told: print("ready", flush=True),
            on_resync=lambda reason: print(f"changes are missing ({reason}): load the table again", flush=True),
        )
        await pets.ready
        CURSOR.write_text(pets.cursor or "")
        async for change in pets:
            print(change.action, change.data, flush=True)
            # after the work: what was begun when this program died comes again
            CURSOR.write_text(change.cursor)


asyncio.run(main())
