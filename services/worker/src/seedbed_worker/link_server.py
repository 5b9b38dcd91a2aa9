"""The Link's serving end: batches of calls in, batches of answers out, and who this worker is.

Each Exchange stream has a reader task, a child of the host, and its handler writes: whatever was
answered while the last batch was being written goes out together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from seedbed.calls import Replied
from seedbed.clock import Clock
from seedbed.errors import ProtocolError
from seedbed.frames import (
    EXCHANGE,
    IDENTIFY,
    ROLE_KEY,
    ReplyOutbox,
    call_from_wire,
    parse_calls,
)
from seedbed.transport import (
    BidiMethod,
    Disconnected,
    Method,
    ServerCall,
    StatusError,
    UnaryMethod,
)
from seedbed.v1 import link_pb2
from seedbed_worker.host import Host
from seedbed_worker.jobs import Answer, Job
from seedbed_worker.streams import StreamCall

log = logging.getLogger(__name__)

MAX_CREDIT: Final = 1024
"""Items of a stream that may wait here for their router, whatever credit it gives."""

SHARE: Final = 64
"""Calls of one batch that begin before the replies of those before them leave, so that the router
does not stand idle meanwhile: with 256 callers twice the calls a second. Smaller shares make small
batches, and each batch costs both ends 85 µs."""

_INVALID_ARGUMENT: Final = 3
_UNAVAILABLE: Final = 14


class LinkServer:
    """The two methods of `seedbed.v1.Link`."""

    def __init__(self, host: Host, *, clock: Clock, node_id: str) -> None:
        self._host = host
        self._clock = clock
        self._node_id = node_id
        self._methods: dict[str, Method] = {
            EXCHANGE: BidiMethod(self.exchange),
            IDENTIFY: UnaryMethod(self.identify),
        }

    def find(self, method: str) -> Method | None:
        """Exchange and Identify."""
        return self._methods.get(method)

    async def identify(self, call: ServerCall, request: bytes) -> bytes:
        """Who listens here; the incarnation is empty while there is none that serves."""
        try:
            link_pb2.IdentifyRequest.FromString(request)
        except DecodeError:
            raise StatusError(_INVALID_ARGUMENT, "this is no IdentifyRequest") from None
        incarnation = self._host.rt.region.incarnation
        return link_pb2.IdentifyResponse(
            node_id=self._node_id, incarnation=incarnation or ""
        ).SerializeToString()

    async def exchange(
        self, call: ServerCall, batches: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes]:
        """Run the calls of one router's stream, until it ends or sends garbage."""
        link = _Exchange(self._host, self._clock, from_seed=(ROLE_KEY, "seed") in call.metadata)
        if not self._host.rt.running:
            raise StatusError(_UNAVAILABLE, "this worker stops")
        reader = self._host.rt.runners.spawn(link.read(batches))
        try:
            while not link.over:
                batch = link.outbox.take()
                if batch is not None:
                    yield batch
                else:
                    await link.something()
            if link.garbage is not None:
                raise StatusError(_INVALID_ARGUMENT, link.garbage)
        finally:
            reader.cancel()
            link.abandon_all()


class _Exchange:
    """One stream: which of its calls run, and what is to be written."""

    def __init__(self, host: Host, clock: Clock, *, from_seed: bool) -> None:
        self._host = host
        self._clock = clock
        self._from_seed = from_seed
        self._jobs: dict[int, Job] = {}
        self._wake = asyncio.Event()
        self._all_read = False
        self.outbox = ReplyOutbox()
        self.garbage: str | None = None

    @property
    def over(self) -> bool:
        """Nothing more is to be written."""
        if self.garbage is not None:
            return True
        return self._all_read and not self._jobs and not len(self.outbox)

    async def something(self) -> None:
        """Wait until there may be something to write, or it is over."""
        await self._wake.wait()
        self._wake.clear()

    async def read(self, batches: AsyncIterator[bytes]) -> None:
        """Take calls until the router's side ends. As a child of the host it must not raise."""
        try:
            async for data in batches:
                await self._take(data)
        except ProtocolError as error:
            self.garbage = str(error)
            log.warning("garbage on a link", extra={"why": str(error)})
        except (Disconnected, StatusError):
            pass  # the handler is cancelled as well
        except Exception:
            log.exception("link reader failed")
            self.garbage = "this worker could not read the stream"
        finally:
            self._all_read = True
            self._wake.set()

    def abandon_all(self) -> None:
        """The router is gone."""
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.abandon()

    async def _take(self, data: bytes) -> None:
        batch = parse_calls(data)
        if not batch.calls and not batch.cancels and not batch.credits:
            raise ProtocolError("a CallBatch on the Link holds nothing that this worker knows")
        now_ns = self._clock.now_ns()
        for number, wire in enumerate(batch.calls, 1):
            self._start(wire, now_ns)
            if number % SHARE == 0:
                await asyncio.sleep(0)
        for id_ in batch.cancels:
            job = self._jobs.pop(id_, None)
            if job is not None:
                job.abandon()
        for credit in batch.credits:
            stream = self._jobs.get(credit.id)
            if isinstance(stream, StreamCall):
                stream.grant(min(credit.items, MAX_CREDIT - stream.credit))

    def _start(self, wire: link_pb2.Call, now_ns: int) -> None:
        call = call_from_wire(wire, now_ns=now_ns, from_seed=self._from_seed)
        if not self._from_seed:
            call.caller = ""  # only a seed's word counts; anybody else's caller is itself
        id_ = wire.id
        if id_ in self._jobs:
            raise ProtocolError(f"two calls on the Link have the id {id_}")
        known = self._host.methods.get(call.method)
        ended = partial(self._ended, id_)
        job: Job | None
        if known is not None and known[1].contract.server_streaming:
            credit = min(wire.credit, MAX_CREDIT)
            job = self._host.open(call, partial(self._item, id_), ended, credit)
        else:
            job = self._host.submit(call, ended)
        if job is not None and not job.ended:
            self._jobs[id_] = job

    def _item(self, id_: int, item: Replied) -> None:
        self.outbox.put_item(id_, item.response, item.epoch)
        self._wake.set()

    def _ended(self, id_: int, answer: Answer) -> None:
        self._jobs.pop(id_, None)
        self.outbox.put(id_, answer)
        self._wake.set()
