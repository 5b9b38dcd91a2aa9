"""A task of an owner's group, for the length of a scope."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def background(
    tasks: asyncio.TaskGroup, work: Coroutine[object, object, None], name: str
) -> AsyncGenerator[asyncio.Task[None], None]:
    """Run beside the body; cancelled, and waited for, when the body ends.

    The owner's group is the parent, so the body's errors leave as they are and not in a group.
    """
    task = tasks.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
