"""What a turn asks for of its entity's reminders, until its end decides whether it counts."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from seedbed.entity import AnyEntity
from seedbed.turn import RemindedMethod
from seedbed_worker.core.reminders import Appointment

if TYPE_CHECKING:
    from seedbed_worker.own_turn import OwnTurn  # it has what it asks for

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_LAST_DAY: Final = 9_999 * 365 * 86_400_000
"""So many ms after 1970 a time may be: what `datetime` can say."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Of one reminder."""

    durable: bool
    due_ms: int = 0
    every_ms: int = 0
    count: int = 1
    drops: bool = False

    def appointment(self, number: int) -> Appointment | None:
        """What it comes to, under this number."""
        if self.drops:
            return None
        return Appointment(self.due_ms, self.every_ms, self.count, number)


def remind(
    job: OwnTurn,
    method: RemindedMethod,
    after: timedelta,
    every: timedelta | None,
    name: str,
    *,
    durable: bool,
) -> None:
    """See `Entity.remind`; a turn of the job is open, and may change things."""
    called = _name(job.entity, method, "remind()")
    if not name.isprintable():
        raise ValueError(f"remind(name={name!r}): printable text")
    if after < timedelta():
        raise ValueError(f"remind(after={after!r}): what is past cannot be waited for")
    if every is not None and every < _MS:
        raise ValueError(f"remind(every={every!r}): a millisecond at least; None for once")
    since = job.turn().now - _EPOCH + after % _MS
    due_ms = -(-since // _MS) + after // _MS  # never before its time
    every_ms = 0 if every is None else every // _MS
    if due_ms + every_ms > _LAST_DAY:
        raise ValueError(f"remind(after={after!r}, every={every!r}): no calendar has that day")
    ask(job, called, name, Asked(durable and job.home.hosted.durable, due_ms, every_ms))


def forget(job: OwnTurn, method: RemindedMethod, name: str) -> None:
    """See `Entity.forget`."""
    called = _name(job.entity, method, "forget()")
    ask(job, called, name, Asked(job.home.hosted.durable, drops=True))


def ask(job: OwnTurn, method: str, name: str, asked: Asked) -> None:
    """Let this take effect with all else that the turn changes."""
    if job.reminders is None:
        job.reminders = {}
    job.reminders[method, name] = asked
    if job.change is None:
        job.change = "remind"


def _name(entity: AnyEntity | None, method: RemindedMethod, what: str) -> str:
    """The method's name, by which another worker will find it. Raises `RuntimeError`."""
    name: str = getattr(method, "__name__", "")
    function: object = getattr(method, "__func__", None)
    if (
        getattr(method, "__self__", None) is not entity
        or getattr(type(entity), name, None) is not function
        or not inspect.iscoroutinefunction(function)
    ):
        raise RuntimeError(
            f"{what}: {method!r} is no `async def` of {type(entity).__qualname__}: give a method of"
            " this very entity, as in self.remind(self.expire), since it is found again by its name"
        )
    return name
