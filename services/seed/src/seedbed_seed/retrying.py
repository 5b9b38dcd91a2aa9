"""The seed's policies for trying again, in one place: full jitter, capped.

Only what changes nothing is ever tried again: a read, a connection, a stream. A write is sent once,
and its caller finds out what became of it by reading.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from tenacity import AsyncRetrying, retry_if_exception_type, stop_never, wait_random_exponential

READ_BACKOFF_BASE_S = 0.025
READ_BACKOFF_CAP_S = 0.5

RECONNECT_BACKOFF_BASE_S = 0.05
RECONNECT_BACKOFF_CAP_S = 1.0
"""A stream is back within this after an outage; gRPC's own default would add 15 s."""


def read_policy(*retry_on: type[Exception]) -> AsyncRetrying:
    """Repeat a read for as long as these errors come; the caller's deadline ends it."""
    return AsyncRetrying(
        retry=retry_if_exception_type(retry_on),
        wait=wait_random_exponential(multiplier=READ_BACKOFF_BASE_S, max=READ_BACKOFF_CAP_S),
        stop=stop_never,
        sleep=asyncio.sleep,
        reraise=True,
    )


class Backoff:
    """Waits between attempts at something that has no end: a stream that is opened again."""

    def __init__(
        self,
        base_s: float = RECONNECT_BACKOFF_BASE_S,
        cap_s: float = RECONNECT_BACKOFF_CAP_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._chance = chance
        self._failures = 0

    def reset(self) -> None:
        """Start anew: the last attempt did some good."""
        self._failures = 0

    def next_s(self) -> float:
        """Return the next wait: anything from 0 up to a limit that doubles, to the cap."""
        limit_s = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._chance() * limit_s

    async def wait(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(self.next_s())
