"""Waiting for what other processes do: by polling, always to a deadline that says what for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def now() -> float:
    """The event loop's time, in seconds."""
    return asyncio.get_running_loop().time()


async def until(what: str, holds: Callable[[], bool], *, within: float) -> None:
    """Poll a condition until it holds; fails with `what` after `within` seconds."""
    try:
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what}") from None
