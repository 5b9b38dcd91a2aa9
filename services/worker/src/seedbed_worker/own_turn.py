"""A job as user code sees it: what it asks of its turn, and what it is told.

What it asks takes effect at the turn's end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING

from seedbed.calls import EntityCall
from seedbed.entity import AnyEntity
from seedbed.turn import RemindedMethod, Turn
from seedbed_worker.absence import Absence
from seedbed_worker.cells import Shard
from seedbed_worker.contents import Change
from seedbed_worker.core.mailbox import Ticket
from seedbed_worker.emitted import Emitted, emit
from seedbed_worker.household import Household
from seedbed_worker.present_turn import PresentTurn
from seedbed_worker.reminding import Asked, forget, remind

if TYPE_CHECKING:
    import grpc.aio  # only named


class OwnTurn(Ticket):
    """The `RunningTurn` that user code finds in its task. A job sets all of it."""

    __slots__ = (
        "absence", "call", "change", "entity", "home", "in_hook", "leaving", "open", "present",
        "reminders", "shard", "started_ns",
    )  # fmt: skip

    home: Household
    call: EntityCall
    shard: Shard
    """Its cell's; from when it has one."""
    entity: AnyEntity | None
    """Whose turn it is; None until it is made."""
    open: bool
    in_hook: bool
    started_ns: int
    change: Change | None
    """What the turn asked for that takes effect at its end."""
    reminders: dict[tuple[str, str], Asked] | None
    """The same of reminders, by method and name; `change` says that there are some."""
    leaving: bool
    """It asked that the entity leave memory."""
    absence: Absence | None
    """Its newest block of `outside()`."""
    present: Turn | None
    """What `turn()` gave in this turn."""

    @property
    def read_only(self) -> bool:
        return not self.exclusive

    def turn(self) -> Turn:
        turn = self.present
        if turn is None:
            turn = self.present = PresentTurn(self)
        return turn

    def forget_turn(self) -> None:
        """Another turn begins: `turn()` describes it anew."""
        self.present = None

    @property
    def is_outside(self) -> bool:
        return self.absence is not None and self.absence.ongoing

    @property
    def was_outside(self) -> bool:
        """It has left a turn by `outside()`, so that something of it may be kept."""
        return self.absence is not None

    @property
    def channel(self) -> grpc.aio.Channel:
        channel = self.home.rt.channel
        if channel is None:
            raise RuntimeError("self.channel: this host has none, since it runs without routes")
        return channel

    @property
    def is_applying(self) -> bool:
        return isinstance(self.change, Emitted) and self.change.applying

    def save(self) -> None:
        if self.home.hosted.events:
            raise RuntimeError(
                "save() in a class with events, whose state is made of them: emit() an event that"
                " says what happened, and change the state in apply()"
            )
        self.change = "save"

    def emit(self, event: object) -> None:
        emit(self, event)

    def delete(self) -> None:
        if isinstance(self.change, Emitted):
            self.change.deleted = True
        else:
            self.change = "delete"
        self.reminders = None

    def remind(
        self,
        method: RemindedMethod,
        after: timedelta,
        every: timedelta | None,
        name: str,
        *,
        durable: bool,
    ) -> None:
        remind(self, method, after, every, name, durable=durable)

    def forget(self, method: RemindedMethod, name: str) -> None:
        forget(self, method, name)

    def passivate(self) -> None:
        self.leaving = True

    def changes(self, after: int) -> AsyncIterator[int]:
        raise RuntimeError("changes(): not in a hook; use it in a server-streaming method")

    def outside(self) -> AbstractAsyncContextManager[None]:
        raise RuntimeError("outside(): not in a hook, which is one turn: do this in a method")
