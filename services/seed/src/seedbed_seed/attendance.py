"""What a seed does for a worker while its Register stream lasts: renew, note what it tells, let go.

Three tasks share it: the reader waits for nobody, the newest heartbeat is answered beside it, and
`worker_reports` writes what the worker tells of itself. So no release waits for a heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from seedbed.clock import Clock
from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.ids import Incarnation
from seedbed.v1 import cluster_pb2, store_pb2
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.core import sessions as core
from seedbed_seed.member_records import Joined, MemberRecords
from seedbed_seed.records import parse_record
from seedbed_seed.retrying import Backoff
from seedbed_seed.store import Get, StoreError
from seedbed_seed.worker_reports import WorkerReports
from seedbed_seed.worker_stream import WorkerStream

log = logging.getLogger(__name__)


class Attendance:
    """Handles the messages of joined workers. `epoch_seen` brings theirs to the coordinator."""

    def __init__(
        self,
        *,
        records: MemberRecords,
        view: ClusterView,
        clock: Clock,
        load_interval_ns: int,
        epoch_seen: Callable[[cluster_pb2.EpochSeen], None],
    ) -> None:
        self._records = records
        self._view = view
        self._clock = clock
        self._load_interval_ns = load_interval_ns
        self._epoch_seen = epoch_seen

    async def attend(self, stream: WorkerStream, joined: Joined) -> None:
        """Handle messages until the stream ends, falls silent, or the worker says goodbye."""
        reports = WorkerReports(
            joined,
            records=self._records,
            view=self._view,
            clock=self._clock,
            load_interval_ns=self._load_interval_ns,
        )
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(stream, joined, reports, tasks))
            writing = tasks.create_task(reports.run())
            await stream.until_over()
            reading.cancel()
            writing.cancel()

    async def _read(
        self,
        stream: WorkerStream,
        joined: Joined,
        reports: WorkerReports,
        tasks: asyncio.TaskGroup,
    ) -> None:
        answering: asyncio.Task[None] | None = None
        try:
            while (message := await stream.receive()) is not None:
                match message.WhichOneof("kind"):
                    case "heartbeat":
                        beat = message.heartbeat
                        todo = stream.apply(core.HeartbeatArrived(beat.seq))
                        if answering is not None:
                            answering.cancel()  # its session has given it up for this one
                        answering = tasks.create_task(self._answer(stream, joined, todo))
                        reports.loaded(beat.load)
                        reports.released(beat.released)
                    case "released":
                        reports.released(message.released.released)
                    case "draining":
                        reports.drains()
                    case "goodbye":
                        stream.apply(core.GoodbyeArrived())
                        return
                    case "epoch_seen":
                        self._epoch_seen(message.epoch_seen)
                    case _:
                        raise ProtocolError("a second Hello on one Register stream")
            stream.end()
        finally:
            if answering is not None:
                answering.cancel()

    async def _answer(
        self, stream: WorkerStream, joined: Joined, todo: list[core.Renew | core.Read]
    ) -> None:
        """Do what the session asks of the store; what is not done in time it calls UNKNOWN."""
        try:
            async with asyncio.timeout(self._records.step_s):
                while todo:
                    todo = await self._ask(stream, joined, todo.pop())
        except (TimeoutError, StoreError) as error:
            log.info("heartbeat not renewed", extra={"node": joined.node_id, "why": repr(error)})

    async def _ask(
        self, stream: WorkerStream, joined: Joined, command: core.Renew | core.Read
    ) -> list[core.Renew | core.Read]:
        store, keys, step_s = self._records.store, self._records.keys, self._records.step_s
        if isinstance(command, core.Renew):
            ttl_s = await store.renew(joined.lease, timeout=step_s)
            return stream.apply(core.RenewalAnswered(command.seq, ttl_s * 1_000_000_000))
        known_revision = self._view.revision
        reading = await store.read(
            Get(keys.worker(joined.node_id)),
            Get(keys.tables, prefix=True, keys_only=True),
            timeout=step_s,
        )
        if stream.ended or reading.revision < known_revision:
            # The store was restored: its revisions do not tell what this stream was sent.
            raise StoreError("etcd was restored, or the stream has ended")
        record, tables = reading.answers
        newest = max((entry.mod_revision for entry in tables), default=0)
        facts = _facts(record[0].value) if record else None
        todo = stream.apply(core.RecordRead(command.seq, facts, newest))
        await self._view.reached(newest)
        stream.routes_reached()
        return todo

    async def set_up(self, joined: Joined, stream: WorkerStream) -> None:
        """The first RENEWED makes the member UP (after a resume it is that already), and the worker
        is told: ready, it may take over from one that is told to drain the next moment."""
        backoff = Backoff()
        while not stream.ended:
            try:
                await self._records.set_status(
                    joined, store_pb2.MEMBER_STATUS_UP, {store_pb2.MEMBER_STATUS_JOINING}
                )
            except StoreError as error:
                log.warning("worker not up", extra={"node": joined.node_id, "error": str(error)})
                await backoff.wait()
            else:
                stream.put(cluster_pb2.SeedMessage(up=cluster_pb2.Up()))
                return

    async def let_go(self, stream: WorkerStream, joined: Joined) -> None:
        """The worker has drained and fenced itself: its shards may move at once."""
        before = {
            store_pb2.MEMBER_STATUS_JOINING,
            store_pb2.MEMBER_STATUS_UP,
            store_pb2.MEMBER_STATUS_DRAINING,
        }
        try:
            if await self._records.set_status(joined, store_pb2.MEMBER_STATUS_LEFT, before):
                await self._records.store.revoke(joined.lease, timeout=self._records.step_s)
        except StoreError as error:
            log.warning("goodbye not written", extra={"node": joined.node_id, "error": str(error)})
            stream.end(CallError(Reason.SEED_NOT_READY, f"etcd did not take the goodbye: {error}"))
            return
        stream.put(cluster_pb2.SeedMessage(farewell=cluster_pb2.Farewell()))


def _facts(value: bytes) -> core.RecordFacts:
    try:
        record = parse_record(value)
    except ProtocolError as error:
        raise StoreError(str(error)) from error
    return core.RecordFacts(
        Incarnation(record.member.incarnation), record.stream_id, record.HasField("silent")
    )
