"""One Register stream: the shell round `core.sessions`, between a worker's bytes and the store.

Two tasks share it. The server's call writes (`outgoing`): route updates before acks, so that what
was sent is known. Registration's task reads (`serve`): one message after the other. Both feed the
session, whose commands are carried out here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from google.protobuf.message import DecodeError

from seedbed.clock import Clock
from seedbed.errors import ProtocolError, SeedbedError
from seedbed.ids import Incarnation
from seedbed.lease_state import LeaseState
from seedbed.v1 import cluster_pb2
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.core import sessions as core
from seedbed_seed.member_records import Joined
from seedbed_seed.routes import RouteLog, RouteReader

UNSENT = 64
"""Messages that a worker may leave unread; then its stream is given up."""

_STATES = {
    LeaseState.RENEWED: cluster_pb2.LEASE_STATE_RENEWED,
    LeaseState.LOST: cluster_pb2.LEASE_STATE_LOST,
    LeaseState.UNKNOWN: cluster_pb2.LEASE_STATE_UNKNOWN,
}


class WorkerStream:
    """From the first message to the end; `error` is the status that the end gives, if any."""

    def __init__(
        self, messages: AsyncIterator[bytes], view: ClusterView, routes: RouteLog, clock: Clock
    ) -> None:
        self.error: SeedbedError | None = None
        self.renewed_ns: int | None = None
        """Set when the worker is given up on this stream: when what it was renewed for arrived."""
        self.on_renewed: Callable[[], None] = _nothing
        """Called once, with the first RENEWED."""
        self.renewed = False
        """Any RENEWED was given on it."""
        self.reached = False
        """This seed has reached the worker at the literal address that its record names."""
        self.goodbye = False
        """The worker said goodbye: all that is left to do is to let it go."""
        self._messages = messages
        self._view = view
        self._log = routes
        self._clock = clock
        self._session: core.Session | None = None
        self._routes: RouteReader | None = None
        self._control: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._poked = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether nothing more is read from it."""
        return self._ended.is_set()

    async def receive(self) -> cluster_pb2.WorkerMessage | None:
        """The next message; None at the stream's end. Raises `ProtocolError` for garbage."""
        try:
            data = await anext(self._messages, None)
        except SeedbedError:
            return None
        if data is None or self.ended:
            return None
        try:
            message = cluster_pb2.WorkerMessage.FromString(data)
        except DecodeError as error:
            raise ProtocolError(f"not a WorkerMessage: {error}") from error
        if message.WhichOneof("kind") is None:
            raise ProtocolError("a WorkerMessage of no known kind")
        return message

    async def until_over(self) -> None:
        """Wait for the end or a goodbye, watching the session's times meanwhile."""
        while not (self.ended or self.goodbye):
            self._poked.clear()
            wake_at_ns = self._session.wake_at_ns if self._session is not None else None
            wait_s: float | None = None
            if wake_at_ns is not None:
                wait_s = max(0.0, (wake_at_ns - self._clock.now_ns()) / 1e9)
            try:
                async with asyncio.timeout(wait_s):
                    await self._poked.wait()
            except TimeoutError:
                self.apply(core.Ticked())

    def begin(self, joined: Joined, welcome: cluster_pb2.Welcome) -> None:
        """The record is written: greet the worker, and hold it to its heartbeats from now on."""
        self._session = core.Session(
            Incarnation(joined.incarnation),
            joined.stream_id,
            joined.ttl_ms * 1_000_000,
            self._clock.now_ns(),
        )
        self.put(cluster_pb2.SeedMessage(welcome=welcome))
        self._poked.set()

    def apply(self, event: core.Event) -> list[core.Renew | core.Read]:
        """Tell the session; returns the commands that ask the store, carries out the others."""
        session = self._session
        if session is None:
            return []
        asked: list[core.Renew | core.Read] = []
        for command in session.apply(event, self._clock.now_ns()):
            match command:
                case core.Renew() | core.Read():
                    asked.append(command)
                case core.Ack(seq, state, ttl_ns):
                    self._acknowledge(seq, state, ttl_ns)
                case core.SetUp():
                    self.renewed = True
                    self.on_renewed()
                case core.Silent(age_ns):
                    self.renewed_ns = self._clock.now_ns() - age_ns
        self.goodbye = self.goodbye or isinstance(event, core.GoodbyeArrived)
        if session.mute and not self.goodbye:
            self.end()
        self._poked.set()
        return asked

    def put(self, message: cluster_pb2.SeedMessage) -> None:
        """Send a message, after those put before."""
        if len(self._control) >= UNSENT:
            self.apply(core.StreamEnded())
            self.end()
            return
        self._control.append(message.SerializeToString())
        self._wake.set()

    def end(self, error: SeedbedError | None = None) -> None:
        """Read no more; the stream ends when what was put has been sent."""
        if error is not None and self.error is None:
            self.error = error
        self._ended.set()
        self._poked.set()
        self._wake.set()

    def disconnected(self) -> None:
        """The server's call is over, for whatever reason."""
        self.apply(core.StreamEnded())
        self._control.clear()
        if self._routes is not None:
            self._routes.close()
        self.end()

    def routes_reached(self) -> None:
        """The view is as new as a heartbeat's answer needs it."""
        self._wake.set()

    async def outgoing(self) -> AsyncIterator[bytes]:
        """What the server's call has to send, in order."""
        greeted = False
        while True:
            self._wake.clear()
            if greeted and self._routes is None and not self.ended:
                self._routes = self._log.reader(self._wake.set, register=True)
            if self._routes is not None and not self.ended:
                revision = self._view.revision
                update = self._routes.take()
                if update is not None:
                    yield update
                # Now it is sent (or there was nothing to send), and not before.
                self.apply(core.RoutesSent(revision))
                if update is not None:
                    continue
            if self._control:
                yield self._control.popleft()
                greeted = self._session is not None
            elif self.ended:
                return
            else:
                await self._wake.wait()

    def _acknowledge(self, seq: int, state: LeaseState, ttl_ns: int) -> None:
        ack = cluster_pb2.HeartbeatAck(
            seq=seq,
            ttl_ms=ttl_ns // 1_000_000,
            state=_STATES[state],
            time_ms=self._clock.wall_ms(),
        )
        self.put(cluster_pb2.SeedMessage(heartbeat_ack=ack))


def _nothing() -> None:
    """Nobody wants to know."""
