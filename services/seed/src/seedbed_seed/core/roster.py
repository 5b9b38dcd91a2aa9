"""Who serves, who is silent, and until when one that is gone might still answer.

Theory. A deleted record does not say why it was deleted: a lease that ran out and one that was
ended early look the same, and the worker of the latter may be alive and believe its lease. What is
known is that its last renewal was given before the deletion (and before a mark: no stream renews a
marked record). A worker counts its validity from the time at which it sent the renewed heartbeat,
so its answers end

    at once           if it said goodbye (LEFT), or a successor proved that it serves no more;
    mark + ttl - age  if a seed had marked it silent: no renewed heartbeat arrived after that age;
    deletion + ttl    otherwise, and if a mark may have been cleared without our seeing it;
    missing + ttl     if a table names it and no record of it was ever seen.

All times count from when *this* seed saw the event, which is later than the event: waiting longer
is safe. Every seed keeps this from the same watch, so a new leader knows what the old one knew.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace

from seedbed.ids import Incarnation, NodeId
from seedbed.routing import Release
from seedbed_seed.core.membership import Status, Worker

_SERVES_NO_MORE = 0
_KEPT_NS = 60_000_000_000
"""What is known of a gone incarnation is kept this long for tables that are yet to name it."""


@dataclass(frozen=True, slots=True)
class _Mark:
    stream_id: str
    age_ns: int
    seen_ns: int
    ends_ns: int


@dataclass(frozen=True, slots=True)
class _Gone:
    """`create_revision` is 0 if the record was never seen, or is still there (LEFT)."""

    ends_ns: int
    since_ns: int
    node_id: NodeId
    create_revision: int = 0


class Roster:
    """The workers, by the records that this seed's watch has delivered."""

    __slots__ = ("_gone", "_joined", "_marks", "_records", "_released", "_serving", "_ttl_ns")

    def __init__(self, ttl_ns: int) -> None:
        self._ttl_ns = ttl_ns
        self._records: dict[NodeId, Worker] = {}
        self._serving: dict[Incarnation, Worker] = {}
        self._joined: dict[Incarnation, int] = {}
        self._marks: dict[Incarnation, _Mark] = {}
        self._gone: dict[Incarnation, _Gone] = {}
        self._released: dict[Incarnation, frozenset[Release]] = {}

    @property
    def ttl_ns(self) -> int:
        """The largest TTL that is known of: no lease is longer."""
        return self._ttl_ns

    def seen(self, worker: Worker, now_ns: int) -> None:
        """A record was written."""
        before = self._records.get(worker.node_id)
        if before is not None and before.incarnation != worker.incarnation:
            self.gone(before.node_id, before.incarnation, now_ns)
        incarnation = worker.incarnation
        self._records[worker.node_id] = worker
        if worker.released:
            self._released[incarnation] = worker.released
        self._ttl_ns = max(self._ttl_ns, worker.ttl_ns)
        if worker.replaced and worker.status is not Status.JOINING:
            # Not before the successor takes shards itself: its own would all go to others.
            self._prove(Incarnation(worker.replaced), worker.node_id, now_ns)
        if not worker.serving:
            self._drop(incarnation)
            known = self._gone.get(incarnation)
            since_ns = known.since_ns if known is not None else now_ns
            self._gone[incarnation] = _Gone(_SERVES_NO_MORE, since_ns, worker.node_id)
            return
        served = self._serving.get(incarnation)
        if served is None or (served.status, worker.status) == (Status.JOINING, Status.UP):
            self._joined[incarnation] = now_ns
        self._serving[incarnation] = worker
        self._gone.pop(incarnation, None)
        self._mark(worker, now_ns)

    def gone(self, node_id: NodeId, incarnation: Incarnation, now_ns: int) -> None:
        """A record was deleted, or its lease ended."""
        worker = self._records.get(node_id)
        if worker is None or worker.incarnation != incarnation:
            return
        del self._records[node_id]
        if incarnation not in self._serving:
            return
        mark = self._marks.get(incarnation)
        ends_ns = mark.ends_ns if mark is not None else now_ns + worker.ttl_ns
        self._drop(incarnation)
        self._gone[incarnation] = _Gone(ends_ns, now_ns, node_id, worker.create_revision)

    def reset(self, workers: Iterable[Worker], now_ns: int, *, restored: bool) -> None:
        """These are all the records; what happened since the last event is not known.

        Nor is anything that was known before, if the store was restored from a backup.
        """
        records = {worker.node_id: worker for worker in workers}
        if restored:
            self._gone.clear()
            self._marks.clear()
        for node_id, before in list(self._records.items()):
            now = records.get(node_id)
            if now is None or now.incarnation != before.incarnation:
                self._marks.pop(before.incarnation, None)
                self.gone(node_id, before.incarnation, now_ns)
        for worker in records.values():
            self.seen(worker, now_ns)

    def expect(self, owners: Iterable[Incarnation], now_ns: int) -> None:
        """A table names these: one that was never seen counts as gone from now on."""
        for incarnation in owners:
            if incarnation not in self._serving and incarnation not in self._gone:
                self._gone[incarnation] = _Gone(now_ns + self._ttl_ns, now_ns, NodeId(""))

    def forget(self, named: Container[Incarnation], now_ns: int) -> None:
        """Drop what is known of those that ended long ago and that no table names."""
        present = {worker.incarnation for worker in self._records.values()}
        for incarnation, gone in list(self._gone.items()):
            ended = max(gone.since_ns + _KEPT_NS, gone.ends_ns) <= now_ns
            if ended and incarnation not in named and incarnation not in present:
                del self._gone[incarnation]
                self._released.pop(incarnation, None)

    def workers(self) -> Iterator[Worker]:
        """Those that serve: all but LEFT."""
        return iter(self._serving.values())

    def on(self, node_id: NodeId) -> Worker | None:
        """The worker of this node, if it has a record."""
        return self._records.get(node_id)

    def node(self, incarnation: Incarnation) -> NodeId | None:
        """The node of a serving worker."""
        worker = self._serving.get(incarnation)
        return worker.node_id if worker is not None else None

    def serves(self, incarnation: Incarnation) -> bool:
        """Does it have a record, and has it not said goodbye?"""
        return incarnation in self._serving

    def reachable(self, incarnation: Incarnation) -> bool:
        """Does it serve, and is it not marked silent?"""
        return incarnation in self._serving and incarnation not in self._marks

    def marked_ns(self, incarnation: Incarnation) -> int | None:
        """When a serving worker was seen marked silent; None if it is not."""
        mark = self._marks.get(incarnation)
        return mark.seen_ns if mark is not None else None

    def joined_ns(self, incarnation: Incarnation) -> int:
        """When a serving worker was first seen, or first seen UP."""
        return self._joined[incarnation]

    def released(self, incarnation: Incarnation) -> frozenset[Release]:
        """What it serves no more in these epochs: its last word, also if its record is gone."""
        return self._released.get(incarnation, frozenset())

    def ends_ns(self, incarnation: Incarnation) -> int | None:
        """From when on it cannot answer any more; of a serving one, unless it comes back.

        0: it serves no more for certain. None: it serves, and nothing says otherwise.
        """
        if (gone := self._gone.get(incarnation)) is not None:
            return gone.ends_ns
        mark = self._marks.get(incarnation)
        return mark.ends_ns if mark is not None else None

    def gone_ns(self, incarnation: Incarnation) -> int:
        """When one that a table names, and that serves no more, was seen to be gone."""
        return self._gone[incarnation].since_ns

    def last_record(self, incarnation: Incarnation) -> tuple[NodeId, int] | None:
        """Node and create revision of the record of one that is gone, if it was ever seen."""
        gone = self._gone.get(incarnation)
        return (gone.node_id, gone.create_revision) if gone and gone.create_revision else None

    def _mark(self, worker: Worker, now_ns: int) -> None:
        if worker.silent_age_ns is None:
            self._marks.pop(worker.incarnation, None)
            return
        known = self._marks.get(worker.incarnation)
        if known is None or (known.stream_id, known.age_ns) != (
            worker.stream_id,
            worker.silent_age_ns,
        ):
            ends_ns = now_ns + max(0, worker.ttl_ns - worker.silent_age_ns)
            mark = _Mark(worker.stream_id, worker.silent_age_ns, now_ns, ends_ns)
            self._marks[worker.incarnation] = mark

    def _prove(self, incarnation: Incarnation, node_id: NodeId, now_ns: int) -> None:
        if incarnation in self._serving:
            return
        known = self._gone.get(incarnation, _Gone(_SERVES_NO_MORE, now_ns, node_id))
        self._gone[incarnation] = replace(known, ends_ns=_SERVES_NO_MORE)

    def _drop(self, incarnation: Incarnation) -> None:
        self._serving.pop(incarnation, None)
        self._joined.pop(incarnation, None)
        self._marks.pop(incarnation, None)
