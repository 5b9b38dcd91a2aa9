"""Where the states of durable classes are kept: the seam, and memory behind it for now.

Nobody but the owner of a shard reads or writes its entities. What a `commit` has returned for is
kept; one that raises may or may not have happened, so who called it reads again.
"""

from __future__ import annotations

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


class EntityStore(Protocol):
    """Keeps states. Raises `CallError` when it does not answer or the shard is another's now."""

    async def load(self, type_: str, key: str, shard: Ownership) -> Stored | None:
        """What was committed last; None: nothing ever."""
        ...

    async def commit(self, type_: str, key: str, stored: Stored, shard: Ownership) -> None:
        """Return once it is kept."""
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

    async def commit(self, type_: str, key: str, stored: Stored, shard: Ownership) -> None:
        states = self._shards.get(shard)
        if states is None:
            states = self._shards[shard] = {}
        states[key] = stored


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

    async def commit(self, type_: str, key: str, stored: Stored, shard: Ownership) -> None:
        self._fence(type_, shard)
        self._states[type_, key] = stored

    def _fence(self, type_: str, shard: Ownership) -> None:
        newest = self._epochs.get((type_, shard.number), 0)
        if shard.epoch < newest:
            message = f"shard {shard.number} of {type_} has an owner of epoch {newest} by now"
            raise CallError(Reason.FENCED, message)
        self._epochs[type_, shard.number] = shard.epoch
