"""One direction of a stream in memory: bounded, and ended once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from seedbed.transport import Disconnected, StatusError

WINDOW: Final = 64
"""Messages that may lie in a stream before its writer has to wait."""


class Pipe:
    """Has one writer and one reader."""

    __slots__ = ("_end", "_messages", "_over", "_room", "_some")

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._over = False
        self._end: Disconnected | StatusError | None = None
        self._some = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, message: bytes) -> None:
        """Returns when there was room; raises `Disconnected` if the stream is over."""
        while len(self._messages) >= WINDOW and not self._over:
            self._room.clear()
            await self._room.wait()
        if self._over:
            raise self._end or Disconnected(0, "the peer ended the stream", reached=True)
        self._messages.append(message)
        self._some.set()

    async def get(self) -> bytes | None:
        """The next message; None at a good end, a bad one is raised."""
        while not self._messages:
            if self._over:
                if self._end is not None:
                    raise self._end
                return None
            self._some.clear()
            await self._some.wait()
        self._room.set()
        return self._messages.popleft()

    def end(self, error: Disconnected | StatusError | None = None) -> None:
        """Nothing comes after what is in it; what is in it is lost if the stream broke."""
        if self._over:
            return
        self._over = True
        self._end = error
        if isinstance(error, Disconnected):
            self._messages.clear()
        self._some.set()
        self._room.set()
