"""`Cluster.Register`: workers' membership, one stream for each.

A stream is read by a task of its own, whose parent is `Registration`, and written by the server's
call: so what has to happen after a stream's end (the mark, the look for evidence) is cut off by no
caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from seedbed.clock import Clock
from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.transport import BidiMethod, Method, ServerCall
from seedbed.v1 import cluster_pb2
from seedbed_seed.attendance import Attendance
from seedbed_seed.cluster_view import ClusterView, ViewChange
from seedbed_seed.core import sessions as core
from seedbed_seed.events import Events
from seedbed_seed.joining import Joining
from seedbed_seed.lost_workers import LostWorkers
from seedbed_seed.member_records import Joined
from seedbed_seed.routes import PROTOCOL, RouteLog
from seedbed_seed.store import StoreError, StoreFull
from seedbed_seed.worker_stream import WorkerStream

log = logging.getLogger(__name__)

PATH = "/seedbed.v1.Cluster/Register"

STREAMS = 1000
"""Register streams on one seed (the published limit is 200 workers, and each may resume)."""

FULL_RETRY_MS = 10_000
"""When a worker that was refused for want of space in etcd may come again."""


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    """What workers are told, and how long things may take."""

    node_id: str
    ttl_s: int
    max_message_bytes: int


class Registration:
    """All Register streams of this seed; `run` is their tasks' parent."""

    def __init__(
        self,
        *,
        view: ClusterView,
        routes: RouteLog,
        joining: Joining,
        attendance: Attendance,
        lost: LostWorkers,
        clock: Clock,
        settings: RegistrationSettings,
        events: Events,
    ) -> None:
        self._view = view
        self._routes = routes
        self._joining = joining
        self._attendance = attendance
        self._lost = lost
        self._clock = clock
        self._settings = settings
        self._events = events
        self._tasks: asyncio.TaskGroup | None = None
        self._streams: set[WorkerStream] = set()
        self._stopping = False
        self._none_left = asyncio.Event()
        view.listen(self._view_changed)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await asyncio.Event().wait()
            finally:
                self._tasks = None

    def find(self, method: str) -> Method | None:
        """Register, for the server."""
        return BidiMethod(self.register) if method == PATH else None

    async def send_elsewhere(self, limit_s: float) -> None:
        """Ask all workers to resume on another seed, and wait (bounded) until they have."""
        self._stopping = True
        self._lost.stop_looking()
        for stream in self._streams:
            stream.put(cluster_pb2.SeedMessage(go_elsewhere=cluster_pb2.GoElsewhere()))
        try:
            async with asyncio.timeout(limit_s):
                while self._streams:
                    self._none_left.clear()
                    await self._none_left.wait()
        except TimeoutError:
            log.warning("workers not gone elsewhere", extra={"streams": len(self._streams)})
        for stream in self._streams:
            stream.end()

    async def register(
        self, call: ServerCall, messages: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """One stream, for the server."""
        if self._tasks is None or self._stopping or not self._view.synced:
            raise CallError(
                Reason.SEED_NOT_READY, "this seed takes no workers now; register with another"
            )
        if len(self._streams) >= STREAMS:
            raise CallError(
                Reason.OVERLOADED, f"this seed has {STREAMS} Register streams: add seeds"
            )
        stream = WorkerStream(messages, self._view, self._routes, self._clock)
        self._streams.add(stream)
        self._tasks.create_task(self._run(stream, call.peer), name=f"register {call.peer}")
        try:
            async for message in stream.outgoing():
                yield message
            if stream.error is not None:
                raise stream.error
        finally:
            stream.disconnected()

    async def _run(self, stream: WorkerStream, peer: str) -> None:
        """A stream from its first message to the last thing that has to follow its end."""
        joined: Joined | None = None
        try:
            joined = await self._greet(stream)
            if joined is not None:
                await self._attendance.attend(stream, joined)
                if stream.goodbye:
                    await self._attendance.let_go(stream, joined)
        except* ProtocolError as errors:
            why = str(errors.exceptions[0])
            log.warning("garbage on register stream", extra={"peer": peer, "error": why})
            stream.end(CallError(Reason.BAD_REQUEST, why))
        except* Exception as errors:
            log.exception("register stream failed", extra={"peer": peer}, exc_info=errors)
            stream.end(CallError(Reason.SEED_NOT_READY, "this seed failed; register with another"))
        finally:
            stream.apply(core.StreamEnded())
            stream.end()
            self._streams.discard(stream)
            self._none_left.set()
        if joined is not None:
            await self._lost.stream_ended(joined, stream)

    async def _greet(self, stream: WorkerStream) -> Joined | None:
        """The Hello and its answer; None if it was refused."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.ttl_s):
                first = await stream.receive()
        except TimeoutError:
            raise ProtocolError("no Hello came within a TTL") from None
        if first is None:
            return None
        if first.WhichOneof("kind") != "hello":
            raise ProtocolError("the first message of a Register stream is Hello")
        hello = first.hello
        try:
            joined = await self._joining.join(hello)
        except StoreFull as error:
            self._refuse(stream, hello, "STORE_FULL", f"etcd is full: {error}", FULL_RETRY_MS)
            return None
        except StoreError as error:
            log.warning("worker not registered", extra={"node": hello.node_id, "why": str(error)})
            stream.end(
                CallError(
                    Reason.SEED_NOT_READY,
                    f"this seed cannot register anyone now ({error}): try another one",
                )
            )
            return None
        except CallError as error:
            retry_ms = int((error.retry_after_s or 0) * 1000)
            self._refuse(stream, hello, error.reason.value, error.message, retry_ms)
            return None
        log.info(
            "worker resumed" if joined.resumed else "worker registered",
            extra={
                "node": joined.node_id,
                "incarnation": joined.incarnation,
                "lease": f"{joined.lease:x}",
            },
        )
        stream.on_renewed = partial(self._renewed, joined, stream)
        stream.begin(
            joined,
            cluster_pb2.Welcome(
                seed=settings.node_id,
                lease_id=joined.lease,
                secret=joined.secret,
                ttl_ms=joined.ttl_ms,
                time_ms=self._clock.wall_ms(),
                protocol=PROTOCOL,
                seeds=self._view.seed_addresses(),
                max_message_bytes=settings.max_message_bytes,
                cluster_uid=joined.cluster_uid,
                shard_counts=joined.shard_counts if joined.cluster_uid else None,
            ),
        )
        return joined

    def _refuse(
        self,
        stream: WorkerStream,
        hello: cluster_pb2.Hello,
        reason: str,
        message: str,
        retry_after_ms: int,
    ) -> None:
        log.warning(
            "worker refused", extra={"node": hello.node_id, "reason": reason, "why": message}
        )
        self._events.refused(hello.node_id, reason, message)
        refused = cluster_pb2.Refused(reason=reason, message=message, retry_after_ms=retry_after_ms)
        stream.put(cluster_pb2.SeedMessage(refused=refused))
        stream.end()

    def _renewed(self, joined: Joined, stream: WorkerStream) -> None:
        if self._tasks is not None:
            up = self._attendance.set_up(joined, stream)
            self._tasks.create_task(up, name=f"up {joined.node_id}")
            self._tasks.create_task(self._lost.reach(joined, stream), name="reach")

    def _view_changed(self, change: ViewChange) -> None:
        if change.restored:
            # Revisions begin anew, so what was sent by the old ones proves nothing: all come again.
            for stream in self._streams:
                stream.end()
