"""What runs in a task: the turn that user code sees, and the seam by which a host provides it.

A turn is not a task. A stream is a read-only turn only between two items, and a method leaves its
turn by `outside()`, so one task may leave a turn and enter another; `CURRENT` names the task's
call, which says whether a turn is open now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import grpc.aio  # only named: this module must not load a transport


class Turn:
    """The turn that runs in this task; nobody changes it. Times are aware, in UTC."""

    # No dataclass: a host gives one whose costly values are made when they are asked for.
    __slots__ = (
        "_caller", "_deadline", "_entity_type", "_epoch", "_now", "_read_only", "_request_id",
        "_shard", "_worker",
    )  # fmt: skip

    def __init__(
        self,
        entity_type: str,
        shard: int,
        epoch: int,
        worker: str,
        request_id: str,
        caller: str,
        deadline: datetime | None,
        now: datetime,
        *,
        read_only: bool,
    ) -> None:
        self._entity_type = entity_type
        self._shard = shard
        self._epoch = epoch
        self._worker = worker
        self._request_id = request_id
        self._caller = caller
        self._deadline = deadline
        self._now = now
        self._read_only = read_only

    @property
    def entity_type(self) -> str:
        return self._entity_type

    @property
    def shard(self) -> int:
        return self._shard

    @property
    def epoch(self) -> int:
        """The fence: rises with every owner that the shard is given."""
        return self._epoch

    @property
    def worker(self) -> str:
        """Node id of the worker."""
        return self._worker

    @property
    def request_id(self) -> str:
        """Empty in hooks."""
        return self._request_id

    @property
    def caller(self) -> str:
        """SPIFFE id of the caller; empty if it has none, and in hooks."""
        return self._caller

    @property
    def deadline(self) -> datetime | None:
        return self._deadline

    @property
    def now(self) -> datetime:
        """Fixed for the turn."""
        return self._now

    @property
    def read_only(self) -> bool:
        return self._read_only

    def __repr__(self) -> str:
        names = (name.removeprefix("_") for name in Turn.__slots__)
        return f"Turn({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    async def confirm(self) -> None:
        """Return once the store says that this owner's fence still holds. Raises if it does not, or
        does not answer; let that end the turn.

        For a read, or an effect outside, that must not come from an owner that has been replaced
        and does not know it yet. Raises `RuntimeError` in a class with durable=False.
        """
        raise RuntimeError("turn.confirm(): this turn is not run by a worker")


@dataclass(frozen=True, slots=True)
class Reminder:
    """What a method that `remind` named is called with."""

    name: str
    due: datetime
    """When it was due; the newest of the times that are caught up with it."""
    count: int
    """Of its times, those that were missed included: 1, and with `every` then 2, 3 …"""


RemindedMethod: TypeAlias = Callable[[Reminder], Awaitable[None]]


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
    def is_outside(self) -> bool:
        """The call is in a block of `outside()`; `open` is False then."""
        ...

    @property
    def is_applying(self) -> bool:
        """The turn applies an event that it has emitted; `open` is False meanwhile."""
        ...

    @property
    def read_only(self) -> bool: ...

    @property
    def present(self) -> Turn | None:
        """What `turn()` gave, if it was asked before in this turn."""
        ...

    @property
    def channel(self) -> grpc.aio.Channel:
        """The same for all entities of a host."""
        ...

    def turn(self) -> Turn: ...

    def save(self) -> None: ...

    def emit(self, event: object) -> None: ...

    def delete(self) -> None: ...

    def passivate(self) -> None: ...

    def remind(
        self,
        method: RemindedMethod,
        after: timedelta,
        every: timedelta | None,
        name: str,
        *,
        durable: bool,
    ) -> None: ...

    def forget(self, method: RemindedMethod, name: str) -> None: ...

    def changes(self, after: int) -> AsyncIterator[int]: ...

    def outside(self) -> AbstractAsyncContextManager[None]: ...


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
    if turn.is_outside:
        return (
            "inside `async with self.outside():` there is no turn: use it before the block, or"
            " after it in the new turn"
        )
    if turn.is_applying:
        return (
            "inside apply() there is no turn, since it runs again whenever the state is read: put"
            " what it needs into the event (the time, for example)"
        )
    return (
        "its turn is over: a task must end within the turn that started it (asyncio.TaskGroup),"
        " between two turns of a stream there is none, and none after a block of outside() that"
        " has failed (handle errors within the block)"
    )
