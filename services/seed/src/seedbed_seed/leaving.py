"""How a seed leaves: its followers go elsewhere first, then its calls end, its lease last."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedbed_seed.edge import Edge
    from seedbed_seed.seed import Seed  # which leaves

log = logging.getLogger(__name__)

ELSEWHERE_S = 5.0
"""How long workers may take to resume on another seed when this one stops."""

ALONE_S = 0.5
"""The same if there is no other seed."""

NOTICE_S = 0.5
"""How long a stopping seed takes calls at least after it has said in its health that it stops: gRPC
ends calls as CANCELLED that reach a closing server, so clients should have left before."""

QUIET_LOOKS = 3
"""So many times in a row a stopping seed sees no call before it lets go of its Links."""


async def leave(seed: Seed, driving: asyncio.Task[None], routing: asyncio.Task[None]) -> None:
    """Stop in the order that costs callers and workers least."""
    log.info("seed stopping")
    by_ns = seed.clock.now_ns() + int(seed.config.drain_timeout_s * 1e9)
    seed.checks.stopping = True
    seed.checks.publish(False)
    await _send_all_elsewhere(seed)
    async with asyncio.TaskGroup() as closing:
        # Sends GOAWAY; what has begun may end.
        left_s = max(0.0, (by_ns - seed.clock.now_ns()) / 1e9)
        closing.create_task(seed.server.close(left_s))
        await _until_quiet(seed.edge)
        routing.cancel()  # only streams are left: they end, and are opened anew elsewhere
        await seed.server.close(ALONE_S)
    driving.cancel()
    await seed.lease.leave()
    log.info("seed stopped")


async def _send_all_elsewhere(seed: Seed) -> None:
    """Whoever follows this seed finds another one while this one still serves its calls."""
    others = len(seed.view.seed_addresses()) > 1
    limit_s = min(ELSEWHERE_S, seed.config.drain_timeout_s / 2) if others else ALONE_S
    async with asyncio.TaskGroup() as leaving:
        leaving.create_task(seed.driver.resign())
        if others:
            leaving.create_task(asyncio.sleep(NOTICE_S))
        await seed.lease.drain()  # before anybody goes, so that nobody is sent back here
        seed.watches.stop()
        seed.events.stop()
        await seed.registration.send_elsewhere(limit_s)


async def _until_quiet(edge: Edge) -> None:
    """No unary call has been under way for a while: one may be between gRPC and its handler."""
    quiet = 0
    while quiet < QUIET_LOOKS:
        quiet = 0 if edge.running else quiet + 1
        await asyncio.sleep(0.02)  # counted on the hot path, without an event
