"""What happened, as this seed saw it: a bounded memory that any number of readers follow.

A reader holds its place in the memory, so none has a queue of its own: one that is so slow that its
place is overwritten is told how many events it missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from seedbed.clock import Clock
from seedbed.errors import CallError, Reason
from seedbed.transport import ServerCall
from seedbed.v1 import admin_pb2, store_pb2

OVERLOAD_S = 1.0
"""OVERLOADED answers of one type within this time are one event."""


@dataclass(frozen=True, slots=True)
class EventLimits:
    """How much of it there may be on one seed."""

    kept: int = 1_000
    """SEEDBED_EVENTS_KEPT: events that are kept for readers."""
    readers: int = 100
    """SEEDBED_EVENT_READERS: open WatchEvents."""


class Events:
    """The memory. `tell` is called on the event loop."""

    def __init__(self, clock: Clock, limits: EventLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._kept: deque[admin_pb2.Event] = deque(maxlen=limits.kept)
        self._told = 0
        self._readers: set[asyncio.Event] = set()
        self._stopping = False

    def tell(self, event: admin_pb2.Event) -> None:
        """Remember what has just happened; its time is set here."""
        event.time_ms = self._clock.wall_ms()
        self._kept.append(event)
        self._told += 1
        for wake in self._readers:
            wake.set()

    def member(self, record: store_pb2.MemberRecord, message: str) -> None:
        """A member's status changed, it fell silent, was heard again, or is down."""
        member = record.member
        self.tell(
            admin_pb2.Event(
                kind=admin_pb2.EVENT_KIND_MEMBER,
                node_id=member.node_id,
                incarnation=member.incarnation,
                role=member.role,
                status=member.status,
                message=message,
            )
        )

    def refused(self, node_id: str, reason: str, message: str) -> None:
        """This seed has refused a worker."""
        self.tell(
            admin_pb2.Event(
                kind=admin_pb2.EVENT_KIND_REFUSED,
                node_id=node_id,
                role=store_pb2.ROLE_WORKER,
                reason=reason,
                message=f"worker {node_id} is refused: {message}",
            )
        )

    def stop(self) -> None:
        """End all watches: their readers go to another seed."""
        self._stopping = True
        for wake in self._readers:
            wake.set()

    async def watch(self, call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        """`Admin.WatchEvents`."""
        try:
            asked = admin_pb2.WatchEventsRequest.FromString(request)
        except DecodeError as error:
            message = f"the request is not what WatchEvents takes: {error}"
            raise CallError(Reason.BAD_REQUEST, message) from error
        if len(self._readers) >= self._limits.readers:
            raise CallError(
                Reason.OVERLOADED,
                f"{self._limits.readers} watch the events of this seed (SEEDBED_EVENT_READERS): ask"
                " another seed",
            )
        place = self._told if asked.only_new else self._oldest
        wake = asyncio.Event()
        self._readers.add(wake)
        try:
            while not self._stopping:
                wake.clear()
                if place < self._oldest:
                    yield self._missed(self._oldest - place)
                    place = self._oldest
                elif place < self._told:
                    event = self._kept[place - self._oldest]
                    place += 1
                    yield event.SerializeToString()
                else:
                    await wake.wait()
        finally:
            self._readers.discard(wake)
        raise CallError(Reason.SEED_NOT_READY, "this seed is going away: watch another one")

    @property
    def _oldest(self) -> int:
        return self._told - len(self._kept)

    def _missed(self, count: int) -> bytes:
        return admin_pb2.Event(
            time_ms=self._clock.wall_ms(),
            kind=admin_pb2.EVENT_KIND_MISSED,
            missed=count,
            message=f"{count} events came faster than this reader took them",
        ).SerializeToString()


class OverloadStory:
    """OVERLOADED answers, counted: the first makes an event a little later, with all till then."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._counts: dict[str, int] = {}

    def answered(self, type_: str) -> None:
        """This seed has answered a call of the type OVERLOADED."""
        count = self._counts.get(type_, 0)
        self._counts[type_] = count + 1
        if not count:
            asyncio.get_running_loop().call_later(OVERLOAD_S, self._tell, type_)

    def _tell(self, type_: str) -> None:
        count = self._counts.pop(type_)
        self._events.tell(
            admin_pb2.Event(
                kind=admin_pb2.EVENT_KIND_OVERLOADED,
                type=type_,
                calls=count,
                reason=Reason.OVERLOADED.value,
                message=f"{count} calls of {type_} were answered OVERLOADED",
            )
        )
