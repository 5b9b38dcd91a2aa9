"""How a change becomes the contents of a record, and a history becomes an entity's state again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from seedbed.entity import AnyEntity
from seedbed.errors import StateError, UnreadableState
from seedbed_worker.emitted import Emitted
from seedbed_worker.hosted import HostedClass
from seedbed_worker.journal.port import History, Kind
from seedbed_worker.record_codec import Part, pack, unpack

Change: TypeAlias = Literal["save", "delete", "remind"] | Emitted
"""`remind`: nothing but `Job.reminders`."""

SNAPSHOT_EVERY: Final = 100
"""Changes between two snapshots, for types that do not say: to read and apply so many events takes
about a millisecond, and a snapshot's cost is spread over so many turns. Of an entity that saves its
state a snapshot is due as often, since older states are deleted behind it."""

# What `seedbed_kept` says of an entity; else it is a hash of its state as it is stored. With that a
# failed turn is compared without a read, for 40 bytes an entity.
NOTHING: Final = 0
KEPT: Final = 1
"""Of a volatile class."""
UNSURE: Final = -1
"""A commit was refused at once. No hash of bytes is -1."""


class Written(NamedTuple):
    """A change as it goes into the store."""

    kind: Kind
    data: bytes
    mark: int
    """What `seedbed_kept` is once it is kept."""
    snapshot: bytes
    """The state after it, if a snapshot is due with it; else empty."""


def deletes(change: Change) -> bool:
    """Whether the change leaves nothing."""
    return change.deleted if isinstance(change, Emitted) else change == "delete"


class Contents:
    """Of one durable class. Raises `StateError` if its fresh state cannot be written."""

    __slots__ = ("_every", "_fresh", "_hosted", "_stored")

    def __init__(self, hosted: HostedClass) -> None:
        assert hosted.stored is not None, "it is durable"
        self._hosted = hosted
        self._stored = hosted.stored
        self._every = hosted.contract.snapshot_every or SNAPSHOT_EVERY
        self._fresh = _mark(self._stored.write_state(hosted.state()))

    def write(self, entity: AnyEntity, change: Change, seq: int) -> Written:
        """What is to be stored of a change that has the number `seq`. Raises `StateError`."""
        if deletes(change):
            return Written(Kind.DELETED, b"", NOTHING, b"")
        try:
            state = self._stored.write_state(entity.state)
        except StateError as error:
            raise StateError(f"{self._name(entity)}: {error}") from error
        snapshot = pack([state]) if seq % self._every == 0 else b""
        if not isinstance(change, Emitted):
            return Written(Kind.STATE, pack([state]), _mark(state), snapshot)
        events = [part for part in change.parts if part is not None]
        return Written(Kind.EVENTS, pack(events), _mark(state), snapshot)

    def restore(self, entity: AnyEntity, found: History | None) -> None:
        """Give the entity what is kept of it. Raises `UnreadableState`, which names the record."""
        if found is None or not found.exists:
            entity.state = self._hosted.state()
            entity.seedbed_kept, entity.seedbed_seq = NOTHING, found.seq if found else 0
            return
        seq = found.seq - len(found.events)
        try:
            entity.state = self._base(found)
            entity.seedbed_kept = NOTHING if found.state is None else KEPT
            # As it was in the turn that emitted them, so that `apply` finds the same.
            for data in found.events:
                entity.seedbed_seq = seq
                seq += 1
                for event in self.events_of(data):
                    apply(entity, event)
                entity.seedbed_kept = KEPT
            entity.seedbed_seq = seq
            entity.seedbed_kept = _mark(self._stored.write_state(entity.state))
        except StateError as error:
            message = f"{self._name(entity)}: record {seq} cannot be read: {error}; nothing ran"
            raise UnreadableState(message) from error

    def _base(self, found: History) -> object:
        if found.state is None:
            return self._hosted.state()
        parts = unpack(found.state)
        if len(parts) != 1:
            raise StateError(
                f"its bytes are damaged: a state has one part, and here are {len(parts)}"
            )
        state = self._decode(parts[0])
        self._stored.check_state(state)
        return state

    def events_of(self, data: bytes) -> Iterator[object]:
        """The events in a record. Raises `StateError`."""
        for part in unpack(data):
            event = self._decode(part)
            self._stored.check_event(event)
            yield event

    def differs(self, entity: AnyEntity) -> bool:
        """Whether its state is another than the one that is kept."""
        try:
            mark = _mark(self._stored.write_state(entity.state))
        except StateError:
            return True
        return mark != (entity.seedbed_kept or self._fresh)

    def _decode(self, part: Part) -> object:
        try:
            return self._hosted.cls.decode(*part)
        except StateError as error:
            raise StateError(f"{part.name or 'None'}: {error}") from error
        except Exception as error:  # whatever user code raises
            raise StateError(f"decode() of a {part.name} raised {type(error).__name__}") from error

    def _name(self, entity: AnyEntity) -> str:
        return f"{self._hosted.name} {entity.seedbed_key!r}"


def apply(entity: AnyEntity, event: object) -> None:
    """Let the entity apply an event that it is read from. Raises `StateError`."""
    try:
        entity.apply(event)
    except Exception as error:  # likewise
        name = type(event).__qualname__
        raise StateError(f"apply() of a {name} raised {type(error).__name__}") from error


def _mark(state: Part) -> int:
    return hash(state.data) or KEPT
