"""One entity method at the front door: from a caller's bytes to a router's call and back.

Hot path: the key out of the raw bytes, one `EntityCall`, one `await`. Nothing is parsed, logged or
traced unless asked for; what can be known before a call is in its `Route`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from seedbed.addressing import DEFAULT_DEADLINE_KEY, entity_call, request_key
from seedbed.calls import EntityCall, Failed, Metadata, Replied
from seedbed.clock import Clock
from seedbed.contract import MethodContract, TypeContract
from seedbed.errors import CallError, Reason
from seedbed.request_ids import RequestIds
from seedbed.service.metrics import Calls
from seedbed.status import failed, reason_of, status_error
from seedbed.stream_flight import StreamHooks
from seedbed.tracing import Kind, Span, Tracer
from seedbed.transport import ServerCall, StatusError
from seedbed_seed.cluster_view import ClusterView


class CallRouter(Protocol):
    """What a gateway needs of `seedbed.router.Router`."""

    async def unary(
        self, call: EntityCall, *, repeatable: bool, read_only: bool
    ) -> Replied | Failed: ...

    def stream(
        self, call: EntityCall, hooks: StreamHooks | None = None
    ) -> AsyncGenerator[bytes, None]: ...


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits of calls, and after which silence of the store this seed stops answering them."""

    max_message_bytes: int
    default_deadline_s: float
    etcd_limit_ns: int


class Edge:
    """What all routes share: where calls go, what bounds them, and what is under way."""

    def __init__(
        self,
        *,
        view: ClusterView,
        router: CallRouter,
        clock: Clock,
        settings: GatewaySettings,
        tracer: Tracer,
        overloaded: Callable[[str], None],
    ) -> None:
        self.router = router
        self.clock = clock
        self.settings = settings
        self.tracer = tracer
        self.overloaded = overloaded
        """Told the type of each call that is answered OVERLOADED."""
        self.request_ids = RequestIds(clock)
        self.default_deadline_ns = int(settings.default_deadline_s * 1e9)
        self.default_deadline: Metadata = (
            (DEFAULT_DEADLINE_KEY, str(int(settings.default_deadline_s * 1000))),
        )
        self.open_streams: dict[str, int] = {}
        self.running = 0
        """Unary calls under way."""
        self._view = view

    def check_ready(self, now_ns: int) -> None:
        """Raise SEED_NOT_READY if what this seed knows is too old, or nothing."""
        view = self._view
        if view.synced and now_ns - view.progress_ns <= self.settings.etcd_limit_ns:
            return
        what = "has not read etcd yet" if not view.synced else "has lost etcd for longer than a TTL"
        raise CallError(
            Reason.SEED_NOT_READY, f"this seed {what}; nothing ran: another seed may answer"
        )


class Route:
    """One method of one entity service, with all that a call of it needs."""

    __slots__ = ("_calls", "_edge", "_method", "_shards", "_type")

    def __init__(
        self, edge: Edge, contract: TypeContract, method: MethodContract, calls: Calls
    ) -> None:
        self._edge = edge
        self._method = method
        self._type = contract.type
        self._shards = contract.shard_count
        self._calls = calls

    async def unary(self, call: ServerCall, request: bytes) -> bytes:
        """Request to reply, by way of the router."""
        edge, method = self._edge, self._method
        began_ns = edge.clock.now_ns()
        trailing: Metadata = ()
        span: Span | None = None
        outcome: Replied | Failed
        edge.running += 1
        try:
            deadline_ns = call.deadline_ns
            if deadline_ns is None:
                deadline_ns = began_ns + edge.default_deadline_ns
                trailing = edge.default_deadline
            entity_call = self._entity_call(call, request, began_ns, deadline_ns)
            if edge.tracer.wants(entity_call.traceparent):
                span = self._span(entity_call)
            outcome = await edge.router.unary(
                entity_call, repeatable=method.repeatable, read_only=method.read_only
            )
        except CallError as error:
            outcome = failed(error)
        except BaseException:
            self._calls.observe(_CANCELLED, edge.clock.now_ns() - began_ns)
            if span is not None:
                span.end(_CANCELLED, "the caller has gone")
            raise
        finally:
            edge.running -= 1
        code = outcome.code if isinstance(outcome, Failed) else 0
        self._calls.observe(code, edge.clock.now_ns() - began_ns)
        if span is not None:
            span.end(code)
        if outcome.initial:
            call.set_initial(outcome.initial)
        if isinstance(outcome, Failed):
            if outcome.reason is Reason.OVERLOADED:
                edge.overloaded(self._type)
            raise _with_trailing(status_error(outcome), trailing)
        if trailing or outcome.trailing:
            call.set_trailing((*outcome.trailing, *trailing))
        return outcome.response

    async def stream(self, call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        """Request to items, by way of the router; without a deadline unless the caller gave one."""
        edge = self._edge
        span: Span | None = None
        code = _CANCELLED
        edge.open_streams[self._type] += 1
        try:
            now_ns = edge.clock.now_ns()
            entity_call = self._entity_call(call, request, now_ns, call.deadline_ns)
            if edge.tracer.wants(entity_call.traceparent):
                span = self._span(entity_call)
            async with aclosing(edge.router.stream(entity_call, call)) as items:
                async for item in items:
                    yield item
            code = 0
        except CallError as error:
            code = failed(error).code
            if error.reason is Reason.OVERLOADED:
                edge.overloaded(self._type)
            raise
        except StatusError as error:
            code = error.code
            if reason_of(error.details) is Reason.OVERLOADED:
                edge.overloaded(self._type)
            raise
        finally:
            edge.open_streams[self._type] -= 1
            self._calls.ended(code)
            if span is not None:
                span.end(code)

    def _entity_call(
        self, call: ServerCall, request: bytes, now_ns: int, deadline_ns: int | None
    ) -> EntityCall:
        edge = self._edge
        edge.check_ready(now_ns)
        method = self._method
        key = request_key(request, method.key, edge.settings.max_message_bytes)
        made = entity_call(
            method.path, self._type, key, self._shards, request, deadline_ns, call.metadata
        )
        if not made.request_id:
            made.request_id = edge.request_ids.mint()
        return made

    def _span(self, call: EntityCall) -> Span:
        span = self._edge.tracer.span(
            Kind.EDGE,
            call.method,
            call.traceparent,
            call.tracestate,
            {"seedbed.type": call.type, "seedbed.shard": call.shard},
        )
        call.traceparent, call.tracestate = span.traceparent, span.tracestate
        return span


_CANCELLED = 1


def _with_trailing(error: StatusError, trailing: Metadata) -> StatusError:
    if trailing:
        error.trailing = (*error.trailing, *trailing)
    return error
