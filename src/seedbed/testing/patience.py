"""Waiting, in real time, for turns that the kit has started: never for long."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Collection
from typing import Final

from seedbed.testing.memory_transport import MemoryTransport
from seedbed.testing.warning import StillRunning
from seedbed_worker.jobs import Job

PATIENCE_S: Final = 1.0
"""How long one turn is waited for."""

_STILL: Final = 25
"""So many rounds of the loop without a message: nothing is under way. From one message to the next
it takes our own code five at most; the rest is for what users do in between."""

_PAUSE_S: Final = 0.001


async def settle(network: MemoryTransport) -> None:
    """Let everything come as far as it can without the clock or the outside world."""
    still = 0
    while still < _STILL:
        written = network.written
        await asyncio.sleep(0)
        still = still + 1 if network.written == written else 0


async def finished(
    network: MemoryTransport, jobs: Callable[[], Collection[Job]], *, what: str
) -> Collection[Job]:
    """Wait until `jobs()` is empty. After a second warn of those that it still gives; returns them.

    `what` says what does not wait for them any longer.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + PATIENCE_S
    while True:
        await settle(network)
        left = jobs()
        left_s = until_s - loop.time()
        if not left:
            return left
        if left_s <= 0:
            for job in [job for job in left if job.handed] or left:
                name = job.method.contract.name.removesuffix("()")
                _warn(f"{job.call.type}/{job.call.key}: {name}() is still running, {what}")
            return left
        tasks = {job.task for job in left if job.task is not None and not job.task.done()}
        if tasks:
            await asyncio.wait(tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        else:  # in line behind another one's turn
            await asyncio.sleep(_PAUSE_S)


def _warn(text: str) -> None:
    warnings.warn(
        f"{text}: it waits for something that is not the cluster's clock",
        StillRunning,
        stacklevel=4,
    )
