"""Pauses between attempts to connect."""

import random
import time

#: Seconds: upper bound of the first pause; it doubles with each attempt.
FIRST = 2.0
CAP = 30.0
#: A socket that was open for so many seconds was no failed attempt.
HEALTHY = 5.0


class Backoff:
    """Full jitter: the clients of a server that was restarted come back spread out."""

    def __init__(self) -> None:
        self._attempts = 0
        self._opened_at: float | None = None

    def opened(self) -> None:
        self._opened_at = time.monotonic()

    def next(self) -> float:
        """Seconds until the next attempt."""
        if self._opened_at is not None and time.monotonic() - self._opened_at >= HEALTHY:
            self._attempts = 0
        self._opened_at = None
        pause = random.uniform(0, min(CAP, FIRST * 2 ** min(self._attempts, 10)))
        self._attempts += 1
        return pause
