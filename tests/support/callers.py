"""Callers that each wait for their answer before they call again, as benchmarks drive a stub."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter


async def took_by_callers(
    call: Callable[[int], Awaitable[object]], *, callers: int, seconds: float
) -> list[float]:
    """What each call took, in seconds, shortest first; `call` gets a number that differs."""
    took: list[float] = []
    end = perf_counter() + seconds

    async def caller(number: int) -> None:
        begin = perf_counter()
        while begin < end:
            number += 7
            await call(number)
            after = perf_counter()
            took.append(after - begin)
            begin = after

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))
    return sorted(took)
