"""The front door: from a path and bytes to a router's call, and back to a reply or a status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from seedbed import status
from seedbed.addressing import DEFAULT_DEADLINE_KEY
from seedbed.calls import EntityCall, Failed, Replied
from seedbed.errors import CallError, Reason
from seedbed.request_ids import minted_at_ms
from seedbed.service.metrics import Metrics
from seedbed.sharding import shard_of
from seedbed.stream_flight import StreamHooks
from seedbed.tracing import NO_TRACER
from seedbed.transport import (
    BidiMethod,
    Method,
    ServerStreamMethod,
    StatusError,
    UnaryMethod,
)
from seedbed_seed.edge import Edge, GatewaySettings
from seedbed_seed.gateway import Gateway
from tests.unit.seed.declared import declaration
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import ScriptedCall

FILL = "/cups.Cups/Fill"
WATCH = "/cups.Cups/Watch"
LIMIT = 1000
SECOND_NS = 1_000_000_000


def cup(name: str, rest: int = 0) -> bytes:
    """A request of `declared.declaration` with this key, and an unknown field of some length."""
    padding = b"\x7a" + bytes([0x80 | rest & 0x7F, rest >> 7]) + b"x" * rest if rest else b""
    return b"\x0a" + bytes([len(name)]) + name.encode() + padding


@dataclass
class ScriptedRouter:
    """Answers calls as a test says, and keeps them."""

    answer: Replied | Failed = field(default_factory=lambda: Replied(b"full"))
    refusal: CallError | None = None
    items: list[bytes] = field(default_factory=list[bytes])
    stream_error: StatusError | None = None
    calls: list[EntityCall] = field(default_factory=list[EntityCall])
    flags: list[tuple[bool, bool]] = field(default_factory=list[tuple[bool, bool]])
    holds: asyncio.Event | None = None

    async def unary(
        self, call: EntityCall, *, repeatable: bool, read_only: bool
    ) -> Replied | Failed:
        self.calls.append(call)
        self.flags.append((repeatable, read_only))
        if self.holds is not None:
            await self.holds.wait()
        if self.refusal is not None:
            raise self.refusal
        return self.answer

    async def stream(
        self, call: EntityCall, hooks: StreamHooks | None = None
    ) -> AsyncGenerator[bytes, None]:
        self.calls.append(call)
        for item in self.items:
            yield item
        if self.stream_error is not None:
            raise self.stream_error


@dataclass
class Door:
    """A gateway with its seed and its router."""

    seed: Desk
    gateway: Gateway
    edge: Edge
    router: ScriptedRouter
    metrics: Metrics
    overloaded: list[str]

    async def call(self, method: str, request: bytes, call: ScriptedCall | None = None) -> bytes:
        """Call as a unary client does, whatever kind of method is found."""
        made = call or ScriptedCall()
        made.method = method
        items = [item async for item in serve(self.gateway.find(method), made, request)]
        assert len(items) == 1
        return items[0]


async def serve(
    method: Method | None, call: ScriptedCall, request: bytes
) -> AsyncGenerator[bytes, None]:
    async def one() -> AsyncIterator[bytes]:
        yield request

    match method:
        case UnaryMethod(handler):
            yield await handler(call, request)
        case ServerStreamMethod(stream):
            async for item in stream(call, request):
                yield item
        case BidiMethod(bidi):
            async for item in bidi(call, one()):
                yield item
        case None:
            raise AssertionError("a gateway finds something for every path")


@asynccontextmanager
async def door(*, registered: bool = True) -> AsyncGenerator[Door, None]:
    async with desk() as seed:
        router = ScriptedRouter()
        metrics = Metrics()
        overloaded: list[str] = []
        edge = Edge(
            view=seed.view,
            router=router,
            clock=seed.clock,
            settings=GatewaySettings(
                max_message_bytes=LIMIT, default_deadline_s=10.0, etcd_limit_ns=2 * SECOND_NS
            ),
            tracer=NO_TRACER,
            overloaded=overloaded.append,
        )
        gateway = Gateway(view=seed.view, contracts=seed.contracts, edge=edge, metrics=metrics)
        if registered:
            await seed.contracts.register([declaration(streams=("Watch",))])
            await seed.until("the type", lambda: "cup" in seed.view.contracts)
        yield Door(seed, gateway, edge, router, metrics, overloaded)


async def test_a_call_goes_to_the_shard_of_its_key_with_its_bytes_untouched() -> None:
    async with door() as front:
        request = cup("blue", 300)
        assert await front.call(FILL, request) == b"full"
        (call,) = front.router.calls
        assert call.request == request
        assert (call.type, call.key, call.method) == ("cup", "blue", FILL)
        assert call.shard == shard_of(b"blue", 16)
        assert front.router.flags == [(False, False)]


async def test_without_a_deadline_the_servers_own_counts_and_is_told() -> None:
    async with door() as front:
        call = ScriptedCall()
        before_ns = front.seed.clock.now_ns()
        await front.call(FILL, cup("a"), call)
        deadline_ns = front.router.calls[0].deadline_ns
        assert deadline_ns is not None
        assert 9 * SECOND_NS < deadline_ns - before_ns <= 11 * SECOND_NS
        assert call.trailing == ((DEFAULT_DEADLINE_KEY, "10000"),)


async def test_a_callers_deadline_is_the_only_one() -> None:
    async with door() as front:
        call = ScriptedCall(deadline_ns=front.seed.clock.now_ns() + SECOND_NS)
        await front.call(FILL, cup("a"), call)
        assert front.router.calls[0].deadline_ns == call.deadline_ns
        assert call.trailing == ()


async def test_the_default_deadline_is_told_with_an_error_too() -> None:
    async with door() as front:
        front.router.answer = Failed(5, "none", trailing=(("mine", "1"),))
        with pytest.raises(StatusError) as raised:
            await front.call(FILL, cup("a"))
        assert raised.value.code == 5
        assert raised.value.trailing == (("mine", "1"), (DEFAULT_DEADLINE_KEY, "10000"))


async def test_metadata_goes_both_ways_and_the_roads_own_stays_here() -> None:
    async with door() as front:
        front.router.answer = Replied(b"full", initial=(("i", "1"),), trailing=(("t", "2"),))
        trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"
        call = ScriptedCall(
            deadline_ns=front.seed.clock.now_ns() + SECOND_NS,
            metadata=(
                ("user-agent", "test"),
                ("tenant", "north"),
                ("photo-bin", b"\x00"),
                ("traceparent", trace),
                ("tracestate", "x=1"),
            ),
        )
        await front.call(FILL, cup("a"), call)
        (sent,) = front.router.calls
        assert sent.metadata == (("tenant", "north"), ("photo-bin", b"\x00"))
        assert (sent.traceparent, sent.tracestate) == (trace, "x=1")
        assert call.initial == (("i", "1"),)
        assert call.trailing == (("t", "2"),)


async def test_an_id_is_minted_unless_the_caller_names_the_call() -> None:
    async with door() as front:
        await front.call(FILL, cup("a"))
        await front.call(FILL, cup("a"), ScriptedCall(metadata=(("idempotency-key", "k1"),)))
        minted, named = (call.request_id for call in front.router.calls)
        assert minted_at_ms(minted) is not None
        assert named == "k1"


@pytest.mark.parametrize(
    ("method", "request_bytes", "reason"),
    [
        (FILL, b"", Reason.BAD_KEY),
        (FILL, b"\x0a\x00", Reason.BAD_KEY),
        (FILL, b"\x0a\x02\xff\xfe", Reason.BAD_KEY),
        (FILL, b"\x0a\x7f", Reason.BAD_REQUEST),
        (FILL, cup("a", 2000), Reason.TOO_LARGE),
        (WATCH, b"", Reason.BAD_KEY),
        (WATCH, cup("a", 2000), Reason.TOO_LARGE),
        ("/cups.Cups/Break", cup("a"), Reason.UNKNOWN_METHOD),
        ("/tea.Pots/Pour", cup("a"), Reason.UNKNOWN_METHOD),
        ("nonsense", cup("a"), Reason.UNKNOWN_METHOD),
    ],
)
async def test_a_wrong_call_is_refused_and_nothing_runs(
    method: str, request_bytes: bytes, reason: Reason
) -> None:
    async with door() as front:
        with pytest.raises((CallError, StatusError)) as raised:
            await front.call(method, request_bytes)
        assert reason_of(raised.value) is reason
        assert front.router.calls == []


def reason_of(error: Exception) -> Reason | None:
    """The reason that a caller sees."""
    if isinstance(error, CallError):
        return error.reason
    return status.reason_of(error.details) if isinstance(error, StatusError) else None


async def test_an_unknown_method_says_which_ones_there_are() -> None:
    async with door() as front:
        with pytest.raises(CallError, match="it has: Fill, Watch"):
            await front.call("/cups.Cups/Break", cup("a"))
        with pytest.raises(CallError, match=r"entity services: cups\.Cups"):
            await front.call("/tea.Pots/Pour", cup("a"))


async def test_a_type_registered_elsewhere_is_found_before_the_watch_tells_of_it() -> None:
    async with door(registered=False) as front:
        apply = front.seed.view.apply
        front.seed.view.apply = lambda update: None  # type: ignore[method-assign]
        await front.seed.contracts.register([declaration(streams=("Watch",))])
        assert await front.call(FILL, cup("a")) == b"full"
        front.router.items = [b"1"]
        assert await front.call(WATCH, cup("a")) == b"1"
        front.seed.view.apply = apply  # type: ignore[method-assign]


async def test_a_path_that_was_looked_for_in_vain_is_not_read_again_at_once() -> None:
    async with door() as front:
        for _ in range(2):
            with pytest.raises(CallError, match="no service"):
                await front.call("/tea.Pots/Pour", cup("a"))
            front.seed.store.stuck = True  # a second reading would never end


async def test_a_seed_that_lost_the_store_says_so_at_once() -> None:
    async with door() as front:
        front.seed.view.progress_ns -= 3 * SECOND_NS
        for method in (FILL, WATCH, "/tea.Pots/Pour"):
            with pytest.raises((CallError, StatusError)) as raised:
                await front.call(method, cup("a"))
            assert reason_of(raised.value) is Reason.SEED_NOT_READY


async def test_a_routers_refusal_is_the_callers_with_its_time_to_wait() -> None:
    async with door() as front:
        front.router.refusal = CallError(Reason.OVERLOADED, "full", retry_after_s=0.5)
        call = ScriptedCall(deadline_ns=front.seed.clock.now_ns() + SECOND_NS)
        with pytest.raises(StatusError) as raised:
            await front.call(FILL, cup("a"), call)
        assert reason_of(raised.value) is Reason.OVERLOADED
        assert front.overloaded == ["cup"]
        assert raised.value.trailing == (("grpc-retry-pushback-ms", "500"),)


async def test_a_stream_passes_items_on_and_ends_as_the_router_says() -> None:
    async with door() as front:
        front.router.items = [b"1", b"2"]
        items = [i async for i in serve(front.gateway.find(WATCH), ScriptedCall(), cup("a"))]
        assert items == [b"1", b"2"]
        assert front.router.calls[0].deadline_ns is None
        front.router.stream_error = StatusError(14, "moving")
        with pytest.raises(StatusError, match="moving"):
            _ = [i async for i in serve(front.gateway.find(WATCH), ScriptedCall(), cup("a"))]
        assert front.edge.open_streams == {"cup": 0}
        assert front.overloaded == []
        front.router.stream_error = status.status_error(
            status.failed(CallError(Reason.OVERLOADED, "full"))
        )
        with pytest.raises(StatusError):
            _ = [i async for i in serve(front.gateway.find(WATCH), ScriptedCall(), cup("a"))]
        assert front.overloaded == ["cup"]


async def test_calls_are_counted_by_how_they_end_also_when_the_caller_goes() -> None:
    async with door() as front:
        await front.call(FILL, cup("a"))
        front.router.answer = Failed(5, "none")
        with pytest.raises(StatusError):
            await front.call(FILL, cup("a"))
        with pytest.raises(StatusError):
            await front.call(FILL, b"")
        front.router.holds = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(front.call(FILL, cup("a")))
            while front.edge.running == 0:
                await asyncio.sleep(0)
            gone.cancel()
        codes = front.metrics.calls("cup", "Fill").codes
        assert (codes[0], codes[1], codes[3], codes[5]) == (1, 1, 1, 1)
        assert front.edge.running == 0
