"""The seam between the call path and tracing: what a hot path may ask without OpenTelemetry.

The call path asks `tracer.wants(traceparent)`, a test of one character, and touches a span only
when it says yes. `seedbed.service.telemetry` is the implementation that exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Protocol, TypeAlias

Attribute: TypeAlias = str | int | float | bool

_FLAGS_END = 55
"""Length of version, trace id, parent id and flags with their dashes: 00-…-…-01."""
_ODD = frozenset("13579bdf")


def sampled(traceparent: str) -> bool:
    """Whether a W3C traceparent says that its trace is recorded."""
    return len(traceparent) >= _FLAGS_END and traceparent[_FLAGS_END - 1] in _ODD


class Kind(Enum):
    """Which part of a call a span covers; the value is its name's first word."""

    EDGE = "edge"
    LINK = "link"
    TURN = "turn"


class Span(Protocol):
    """A part of one recorded call, from its start until `end`."""

    @property
    def traceparent(self) -> str:
        """What the next hop gets as its parent."""
        ...

    @property
    def tracestate(self) -> str: ...

    def set(self, name: str, value: Attribute) -> None: ...

    def current(self) -> AbstractContextManager[object]:
        """Makes it the parent of what the user's own code records inside."""
        ...

    def end(self, code: int = 0, message: str = "") -> None:
        """Close the span with the call's gRPC status code."""
        ...


class Tracer(Protocol):
    """Starts spans for calls that are recorded."""

    def wants(self, traceparent: str) -> bool:
        """Whether a call that came with this traceparent (or with none) gets spans."""
        ...

    def span(
        self,
        kind: Kind,
        method: str,
        traceparent: str,
        tracestate: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Span:
        """Start a span of the call of `method` (its gRPC path)."""
        ...


class NoSpan:
    """A span of a call that is not recorded: passes its parent on."""

    __slots__ = ("traceparent", "tracestate")

    def __init__(self, traceparent: str, tracestate: str) -> None:
        self.traceparent = traceparent
        self.tracestate = tracestate

    def set(self, name: str, value: Attribute) -> None:
        """Nothing is recorded."""

    def current(self) -> AbstractContextManager[object]:
        return nullcontext()

    def end(self, code: int = 0, message: str = "") -> None:
        """Nothing is recorded."""


class NoTracer:
    """Records nothing."""

    def wants(self, traceparent: str) -> bool:
        return False

    def span(
        self,
        kind: Kind,
        method: str,
        traceparent: str,
        tracestate: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Span:
        return NoSpan(traceparent, tracestate)


NO_TRACER: Tracer = NoTracer()
