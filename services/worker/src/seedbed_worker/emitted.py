"""What a turn has emitted so far.

An event is written as it is at `emit`, and takes effect in memory at once. `apply` runs again
whenever the state is read, on another worker and years later: so no turn is open while it runs, and
what it cannot do then it cannot do now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seedbed.errors import StateError
from seedbed_worker.record_codec import Part

if TYPE_CHECKING:
    from seedbed_worker.own_turn import OwnTurn  # it has what it emits


class Emitted:
    """The events of one turn, which are kept together."""

    __slots__ = ("applying", "deleted", "failure", "parts")

    def __init__(self) -> None:
        self.parts: list[Part | None] = []
        """In order; None: of a volatile class, which writes nothing."""
        self.applying = False
        self.deleted = False
        """The turn called `delete` after the newest of them."""
        self.failure: Exception | None = None
        """`apply` has raised it: what is in memory cannot be made again from the events."""


def emit(job: OwnTurn, event: object) -> None:
    """Add an event to what the job's turn changes, and apply it.

    Raises `StateError` if it cannot be stored, `RuntimeError` in a class without events.
    """
    hosted, entity = job.home.hosted, job.entity
    assert entity is not None, "a turn of it is open"
    if type(event) not in hosted.events:
        raise _stranger(event, hosted.events)
    part = hosted.stored.write_event(event) if hosted.stored is not None else None
    change = job.change
    emitted = job.change = change if isinstance(change, Emitted) else Emitted()
    emitted.parts.append(part)
    emitted.deleted = False
    emitted.applying, job.open = True, False
    try:
        entity.apply(event)
    except Exception as error:
        emitted.failure = error
        raise
    finally:
        emitted.applying, job.open = False, True


def _stranger(event: object, events: Sequence[type]) -> Exception:
    if not events:
        return RuntimeError(
            "emit(): the class has no events: change the state and save() it, or name the classes"
            " of its events, as in Entity[pb.CartState, pb.ItemAdded | pb.ItemRemoved]"
        )
    names = ", ".join(one.__qualname__ for one in events)
    return StateError(
        f"emit() of a {type(event).__qualname__}, which is none of the class's events ({names}):"
        " name it in the class's union"
    )
