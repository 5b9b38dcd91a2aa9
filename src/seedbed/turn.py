"""What runs in a task: the turn that user code sees, and the seam by which a host provides it.

A turn is not a task. A stream is a read-only turn only between two items, so one task may leave a
turn and enter another; `CURRENT` names the task's call, which says whether a turn is open now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn that runs in this task. Times are aware, in UTC."""

    entity_type: str
    shard: int
    epoch: int
    """The fence: rises with every owner that the shard is given."""
    worker: str
    """Node id of the worker."""
    request_id: str
    """Empty in hooks."""
    caller: str
    """SPIFFE id of the caller; empty if it has none, and in hooks."""
    deadline: datetime | None
    now: datetime
    """Fixed for the turn."""
    read_only: bool

    async def confirm(self) -> None:
        """Return once the store says that this owner's fence still holds."""
        raise NotImplementedError("turn.confirm() needs a journal: it comes with durable entities")


@dataclass(frozen=True, slots=True)
class Reminder:
    """What a method that `remind` named is called with."""

    name: str
    due: datetime
    count: int


class RunningTurn(Protocol):
    """A host's call (or hook) as the entity API needs it."""

    @property
    def entity(self) -> object | None:
        """The instance whose turn this is; None while it is being made."""
        ...

    @property
    def open(self) -> bool:
        """A turn is open: False between two turns of one call, and for ever after its end."""
        ...

    @property
    def read_only(self) -> bool: ...

    def turn(self) -> Turn: ...

    def save(self) -> None: ...

    def passivate(self) -> None: ...

    def changes(self, after: int) -> AsyncIterator[int]: ...


CURRENT: ContextVar[RunningTurn | None] = ContextVar("seedbed_turn", default=None)
"""The call that this task works for. Tasks that user code starts inherit it."""


def running(entity: object, name: str) -> RunningTurn:
    """Return the open turn of this entity in this task; `name` is what the user asked for."""
    turn = CURRENT.get()
    if turn is not None and turn.open and turn.entity is entity:
        return turn
    raise RuntimeError(f"{name}: {_why(turn, entity)}")


def writing(entity: object, name: str) -> RunningTurn:
    """Return the open turn of this entity in this task, if it may change things."""
    turn = running(entity, name)
    if turn.read_only:
        raise RuntimeError(
            f"{name} in a read-only turn: call it in a method that is neither server-streaming nor"
            " declared NO_SIDE_EFFECTS"
        )
    return turn


def _why(turn: RunningTurn | None, entity: object) -> str:
    if turn is None:
        return (
            "no turn runs in this task: use it in RPC methods and hooks of an entity that Seedbed"
            " runs (in __init__ there is no turn yet: use activated())"
        )
    if turn.entity is None:
        return "the entity is still being made, so there is no turn yet: use activated()"
    if turn.entity is not entity:
        return "the turn of this task is another entity's: call that entity through its stub"
    return (
        "its turn is over: a task must end within the turn that started it (asyncio.TaskGroup),"
        " and between two turns of a stream there is none"
    )
