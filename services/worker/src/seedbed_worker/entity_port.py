"""Serves this worker's own entity services to plain gRPC clients, for the shards that it owns.

Nothing is forwarded: a call for any other shard is refused with `NOT_OWNER`, and a seed is the way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable

from seedbed.addressing import DEFAULT_DEADLINE_KEY, entity_call, request_key
from seedbed.calls import EntityCall, Failed, Metadata, NotHere, Replied
from seedbed.clock import Clock
from seedbed.errors import CallError, Reason
from seedbed.frames import STREAM_CREDIT
from seedbed.ids import NO_GENERATION
from seedbed.metadata import IDEMPOTENCY_KEY
from seedbed.status import failed, status_error
from seedbed.transport import Method, ServerCall, ServerStreamMethod, StatusError, UnaryMethod
from seedbed_worker.host import Host
from seedbed_worker.hosted import HostedClass, HostedMethod
from seedbed_worker.jobs import Answer, Job, nobody


class EntityPort:
    """`Methods` for the paths of all hosted services."""

    def __init__(
        self, host: Host, *, clock: Clock, max_message_bytes: int, default_deadline_s: float
    ) -> None:
        self.host = host
        self.clock = clock
        self.max_message_bytes = max_message_bytes
        self.default_deadline_ns = int(default_deadline_s * 1e9)
        self.default_deadline: Metadata = (
            (DEFAULT_DEADLINE_KEY, str(int(default_deadline_s * 1000))),
        )
        self._methods: dict[str, Method] = {
            path: _method(self, hosted, method) for path, (hosted, method) in host.methods.items()
        }

    def find(self, method: str) -> Method | None:
        """The method of this path, if a hosted service has it."""
        return self._methods.get(method)


def _method(port: EntityPort, hosted: HostedClass, method: HostedMethod) -> Method:
    entry = _Entry(port, hosted, method)
    if method.contract.server_streaming:
        return ServerStreamMethod(entry.stream)
    return UnaryMethod(entry.unary, entry.prompt)


class _Entry:
    """One method, with all that a call of it needs."""

    __slots__ = ("_key", "_path", "_port", "_type")

    def __init__(self, port: EntityPort, hosted: HostedClass, method: HostedMethod) -> None:
        self._port = port
        self._type = hosted.contract.type
        self._path = method.contract.path
        self._key = method.contract.key

    async def unary(self, call: ServerCall, request: bytes) -> bytes:
        """Request to reply."""
        reply = self.prompt(call, request)
        return reply if isinstance(reply, bytes) else await reply

    def prompt(self, call: ServerCall, request: bytes) -> bytes | Awaitable[bytes]:
        """Request to reply, which is there at once if the entity's turn waits for nothing."""
        port = self._port
        trailing: Metadata = ()
        deadline_ns = call.deadline_ns
        if deadline_ns is None:
            deadline_ns = port.clock.now_ns() + port.default_deadline_ns
            trailing = port.default_deadline
        job = port.host.submit(self._entity_call(call, request, deadline_ns), nobody)
        if job is None:
            return _reply(call, NotHere(NO_GENERATION), trailing)
        if job.answer is None:
            return self._later(call, job, trailing)
        return _reply(call, job.answer, trailing)

    async def _later(self, call: ServerCall, job: Job, trailing: Metadata) -> bytes:
        return _reply(call, await self._port.host.answer_of(job), trailing)

    async def stream(self, call: ServerCall, request: bytes) -> AsyncGenerator[bytes]:
        """Request to items."""
        reader = _Reader()
        job = self._port.host.open(
            self._entity_call(call, request, call.deadline_ns),
            reader.item,
            reader.ended,
            STREAM_CREDIT,
        )
        try:
            first = True
            async for item in reader:
                if first and item.initial:
                    call.set_initial(item.initial)
                first = False
                yield item.response
                if job is not None:
                    job.grant(1)
            answer = reader.answer
            if isinstance(answer, Failed) and answer.code == 0:
                if first and answer.initial:
                    call.set_initial(answer.initial)
                if answer.trailing:
                    call.set_trailing(answer.trailing)
            elif isinstance(answer, Failed | NotHere):
                raise _error(answer)
        finally:
            if job is not None:
                job.abandon()

    def _entity_call(self, call: ServerCall, request: bytes, deadline_ns: int | None) -> EntityCall:
        port = self._port
        key = request_key(request, self._key, port.max_message_bytes)
        table = port.host.rt.region.view.tables.get((self._type, 0))
        if table is None:
            raise not_owner()
        # Without an id, one is minted if it is asked for.
        return entity_call(
            self._path, self._type, key, table.shard_count, request, deadline_ns, call.metadata
        )


def _reply(call: ServerCall, answer: Answer, trailing: Metadata) -> bytes:
    if not isinstance(answer, Replied):
        if isinstance(answer, Failed) and answer.initial:
            call.set_initial(answer.initial)
        error = _error(answer)
        error.trailing = (*error.trailing, *trailing)
        raise error
    if answer.initial:
        call.set_initial(answer.initial)
    if trailing or answer.trailing:
        call.set_trailing((*answer.trailing, *trailing))
    return answer.response


class _Reader:
    """What a stream has sent and its client has not taken yet."""

    __slots__ = ("_items", "_wake", "answer")

    def __init__(self) -> None:
        self._items: deque[Replied] = deque()
        self._wake = asyncio.Event()
        self.answer: Answer | None = None

    def item(self, item: Replied) -> None:
        self._items.append(item)
        self._wake.set()

    def ended(self, answer: Answer) -> None:
        self.answer = answer
        self._wake.set()

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Replied:
        while not self._items:
            if self.answer is not None:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._items.popleft()


def not_owner() -> CallError:
    """This worker does not own the shard of the call."""
    return CallError(
        Reason.NOT_OWNER,
        "this worker does not own the entity's shard; nothing ran: call it through a seed",
    )


def _error(answer: Failed | NotHere) -> StatusError:
    if isinstance(answer, NotHere):
        return status_error(failed(not_owner()))
    if answer.reason is not Reason.FENCED:
        return status_error(answer)
    if not answer.started:
        return status_error(failed(not_owner()))
    message = (
        "the worker lost the entity's shard while the call ran, so it may have had its effect:"
        f" repeat it with the same {IDEMPOTENCY_KEY}, through a seed"
    )
    return status_error(failed(CallError(Reason.OUTCOME_UNKNOWN, message), started=True))
