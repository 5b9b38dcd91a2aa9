"""A router records each attempt of a sampled call, and nothing of any other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import pytest

from seedbed.calls import NotHere, Replied
from seedbed.ids import Generation
from seedbed.tracing import Attribute, Kind, Span, sampled
from tests.unit.sdk.fake_network import silence
from tests.unit.sdk.router_bed import bed

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class FakeSpan:
    """A span that notes its end."""

    tracestate = ""

    def __init__(self, number: int, parent: str, attributes: Mapping[str, Attribute]) -> None:
        self.traceparent = f"{PARENT[:36]}{number:016x}-01"
        self.parent = parent
        self.attributes = dict(attributes)
        self.codes: list[int] = []

    def set(self, name: str, value: Attribute) -> None:
        self.attributes[name] = value

    def current(self) -> AbstractContextManager[object]:
        return nullcontext()

    def end(self, code: int = 0, message: str = "") -> None:
        self.codes.append(code)


class FakeTracer:
    """Keeps its spans, which are all of one kind."""

    def __init__(self, kind: Kind = Kind.LINK) -> None:
        self.kind = kind
        self.spans: list[FakeSpan] = []

    def wants(self, traceparent: str) -> bool:
        return sampled(traceparent)

    def span(
        self,
        kind: Kind,
        method: str,
        traceparent: str,
        tracestate: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Span:
        assert kind is self.kind
        self.spans.append(FakeSpan(len(self.spans) + 1, traceparent, attributes or {}))
        return self.spans[-1]


async def test_what_the_worker_gets_names_the_attempt_as_its_parent() -> None:
    async with bed() as it:
        it.router.tracer = tracer = FakeTracer()
        it.place("a")
        call = it.call()
        call.traceparent = PARENT
        assert isinstance(await it.start(call), Replied)
        (span,) = tracer.spans
        assert span.parent == PARENT
        assert span.codes == [0]
        assert span.attributes["server.address"] == "a:1"
        assert it.a.calls[0].traceparent == span.traceparent


async def test_each_attempt_is_a_span_of_the_same_parent() -> None:
    async with bed() as it:
        it.router.tracer = tracer = FakeTracer()
        it.a.answer = lambda call: NotHere(Generation(call.generation))
        it.place("a")
        call = it.call()
        call.traceparent = PARENT
        answer = it.start(call)
        await it.sent(it.a)
        await it.parked()
        it.place("b")
        assert isinstance(await answer, Replied)
        assert [span.parent for span in tracer.spans] == [PARENT, PARENT]
        assert [span.codes for span in tracer.spans] == [[14], [0]]
        assert call.traceparent == PARENT


async def test_an_attempt_that_nobody_waits_for_is_ended() -> None:
    async with bed() as it:
        it.router.tracer = tracer = FakeTracer()
        it.a.answer = silence
        it.place("a")
        call = it.call()
        call.traceparent = PARENT
        answer = it.start(call)
        await it.sent(it.a)
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
        assert [span.codes for span in tracer.spans] == [[1]]


async def test_an_unsampled_call_leaves_nothing() -> None:
    async with bed() as it:
        it.router.tracer = tracer = FakeTracer()
        it.place("a")
        call = it.call()
        call.traceparent = PARENT[:-1] + "0"
        await it.start(call)
        await it.start()
        assert tracer.spans == []
        assert it.a.calls[0].traceparent == call.traceparent
