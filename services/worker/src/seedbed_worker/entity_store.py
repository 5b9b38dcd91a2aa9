"""Where the states of durable classes are kept: the seam, and the memories behind it.

Nobody but the owner of a shard reads or writes its entities. A commit is under way from when it is
begun to its one end: it is kept, or has failed. One that has failed may have happened all the same,
so who began it reads again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from seedbed.errors import CallError, Reason


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept of an entity."""

    seq: int
    data: bytes | None
    """Its state; None: it was deleted."""


class Ownership(Protocol):
    """One ownership of a shard: `epoch` rises with every owner."""

    @property
    def number(self) -> int: ...

    @property
    def epoch(self) -> int: ...


class Commit:
    """A change on its way into a store."""

    __slots__ = ("_then", "done", "error")

    def __init__(self) -> None:
        self.done = False
        self.error: CallError | None = None
        """Why it has failed."""
        self._then: list[Callable[[Commit], object]] = []

    def then(self, ended: Callable[[Commit], object]) -> None:
        """Call this at its end (now, if it has ended), after those that were given before."""
        if self.done:
            ended(self)
        else:
            self._then.append(ended)

    def end(self, error: CallError | None = None) -> None:
        """It is kept; or has failed, with this error."""
        self.done, self.error = True, error
        then, self._then = self._then, []
        for ended in then:
            ended(self)

    async def ended(self) -> None:
        """Return at its end; who waits may be cancelled."""
        if not self.done:
            end = asyncio.Event()
            self.then(lambda _: end.set())
            await end.wait()

    async def wait(self) -> None:
        """Return once it is kept. Raises its `CallError`."""
        await self.ended()
        if self.error is not None:
            raise self.error


class EntityStore(Protocol):
    """Keeps states. Raises `CallError` when it does not answer or the shard is another's now."""

    async def load(self, type_: str, key: str, shard: Ownership) -> Stored | None:
        """What was committed last, after all commits of it that are under way; None: nothing
        ever."""
        ...

    def commit(self, type_: str, key: str, stored: Stored, shard: Ownership) -> Commit:
        """Begin to keep it, after all commits of its shard that are under way. If one of these
        fails, so does it."""
        ...


class OwnedStates:
    """The states of what this process owns, in its memory: they end with the ownership.

    A state must not outlive it: whoever owns the shard in between writes elsewhere.
    """

    def __init__(self) -> None:
        self._shards: WeakKeyDictionary[Ownership, dict[str, Stored]] = WeakKeyDictionary()

    async def load(self, type_: str, key: str, shard: Ownership) -> Stored | None:
        states = self._shards.get(shard)
        return None if states is None else states.get(key)

    def commit(self, type_: str, key: str, stored: Stored, shard: Ownership) -> Commit:
        states = self._shards.get(shard)
        if states is None:
            states = self._shards[shard] = {}
        states[key] = stored
        return _KEPT


class MemoryStates:
    """One memory that all workers of a process share, so that states survive moves and crashes.

    As a store will, it refuses an owner that has had a successor.
    """

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], Stored] = {}
        self._epochs: dict[tuple[str, int], int] = {}

    async def load(self, type_: str, key: str, shard: Ownership) -> Stored | None:
        self._fence(type_, shard)
        return self._states.get((type_, key))

    def commit(self, type_: str, key: str, stored: Stored, shard: Ownership) -> Commit:
        self._fence(type_, shard)
        self._states[type_, key] = stored
        return _KEPT

    def _fence(self, type_: str, shard: Ownership) -> None:
        newest = self._epochs.get((type_, shard.number), 0)
        if shard.epoch < newest:
            message = f"shard {shard.number} of {type_} has an owner of epoch {newest} by now"
            raise CallError(Reason.FENCED, message)
        self._epochs[type_, shard.number] = shard.epoch


_KEPT = Commit()
_KEPT.end()
