"""What becomes of a worker's record by its own word: it is up, drains, releases shards, leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from seedbed.ids import Epoch, Incarnation, NodeId
from seedbed.routing import Release
from seedbed_seed.core.membership import Status, Worker
from seedbed_seed.core.sessions import Session
from seedbed_worker.core import session_messages as msg
from tests.simulation.kernel import MS, SECOND
from tests.simulation.store_client import Change

if TYPE_CHECKING:  # a seed writes records
    from tests.simulation.seed import SimSeed
    from tests.simulation.streams import Stream

RETRY_NS = SECOND // 4


@dataclass(slots=True)
class Registered:
    """A Register stream whose Hello was accepted."""

    stream: Stream
    session: Session
    node_id: NodeId
    incarnation: Incarnation
    lease: int
    wake_at_ns: int | None = None
    released: frozenset[Release] = frozenset()
    """What its worker said last."""
    recorded: frozenset[Release] = frozenset()
    """What its record holds of that."""
    recording: bool = False


class MemberRecords:
    """Writes of one life of a seed; each only while the record names the stream."""

    def __init__(self, seed: SimSeed) -> None:
        self._kernel = seed.kernel
        self._process = seed.process
        self._store = seed.store
        self._client = seed.client

    def set_up(self, registered: Registered) -> None:
        """Its first heartbeat was renewed."""
        self._set_status(registered, Status.UP, (Status.JOINING,))

    def set_draining(self, registered: Registered) -> None:
        """It is to be given nothing more."""
        self._set_status(registered, Status.DRAINING, (Status.JOINING, Status.UP))

    def let_go(self, registered: Registered) -> None:
        """It has drained and fenced itself: its shards may move at once."""

        def change(worker: Worker) -> Worker | None:
            return replace(worker, status=Status.LEFT) if worker.serving else None

        def written(revision: int | None) -> None:
            if revision is None:
                registered.stream.down.send(None)
                return
            if revision:
                self._client.ask(lambda: self._store.revoke(registered.lease), lambda _: None)
            registered.stream.down.send(msg.Farewell())

        self._rewrite(registered, change, written)

    def note(self, registered: Registered, released: Iterable[tuple[str, int, Epoch]]) -> None:
        """All that it has released goes into its record: one write at a time, if anything is new,
        and what comes meanwhile goes with the next."""
        registered.released = frozenset(Release(*one) for one in released)
        if registered.recording or registered.released <= registered.recorded:
            return
        registered.recording = True
        delay_ns = self._kernel.between(0, 5 * MS)
        self._kernel.after(delay_ns, self._process, partial(self._record, registered))

    def _record(self, registered: Registered) -> None:
        released = registered.released

        def change(worker: Worker) -> Worker | None:
            return replace(worker, released=released) if worker.serving else None

        def written(revision: int | None) -> None:
            registered.recording = False
            if revision:
                registered.recorded = released
                self.note(registered, registered.released)

        self._rewrite(registered, change, written)

    def _set_status(
        self, registered: Registered, status: Status, before: tuple[Status, ...]
    ) -> None:
        """Move the member on; again and again, until the stream has ended."""

        def change(worker: Worker) -> Worker | None:
            return replace(worker, status=status) if worker.status in before else None

        def written(revision: int | None) -> None:
            if revision is None and not registered.session.mute:
                again = partial(self._set_status, registered, status, before)
                self._kernel.after(RETRY_NS, self._process, again)

        self._rewrite(registered, change, written)

    def _rewrite(
        self,
        registered: Registered,
        change: Callable[[Worker], Worker | None],
        then: Callable[[int | None], None],
    ) -> None:
        node_id, stream_id = registered.node_id, registered.stream.id
        self._client.rewrite(Change(node_id, registered.incarnation, change, stream_id), then)
