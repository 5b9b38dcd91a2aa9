"""The tracer that records: spans of sampled calls through the OpenTelemetry SDK."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from seedbed.service.metrics_list import CODES
from seedbed.tracing import Attribute, Kind, Span, sampled

CLOSE_LIMIT_S = 2.0

_PROPAGATOR = TraceContextTextMapPropagator()
_KINDS = {
    Kind.EDGE: trace.SpanKind.SERVER,
    Kind.LINK: trace.SpanKind.CLIENT,
    Kind.TURN: trace.SpanKind.SERVER,
}


class OtelTracer:
    """Records spans and exports them in batches from a thread of the SDK."""

    def __init__(
        self,
        *,
        exporter: str | SpanExporter,
        starts_traces: bool,
        service: str,
        node: str,
    ) -> None:
        resource = Resource.create({"service.instance.id": node})
        if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": service}))
        self._starts_traces = starts_traces
        # The SDK takes the sampler from OTEL_TRACES_SAMPLER itself.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
        self._tracer = self._provider.get_tracer("seedbed")

    def wants(self, traceparent: str) -> bool:
        return sampled(traceparent) if traceparent else self._starts_traces

    def span(
        self,
        kind: Kind,
        method: str,
        traceparent: str,
        tracestate: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Span:
        carrier = {"traceparent": traceparent}
        if tracestate:
            carrier["tracestate"] = tracestate
        service, _, name = method.lstrip("/").rpartition("/")
        return _OtelSpan(
            self._tracer.start_span(
                f"{kind.value} {method.lstrip('/')}",
                # A context of its own: the loop's current span belongs to some other call.
                context=_PROPAGATOR.extract(carrier, context=Context()),
                kind=_KINDS[kind],
                attributes={
                    "rpc.system": "grpc",
                    "rpc.service": service,
                    "rpc.method": name,
                    **(attributes or {}),
                },
            )
        )

    def close(self) -> None:
        """Flush; a collector that does not answer holds the process's end for 2 s at most."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_LIMIT_S)


class _OtelSpan:
    __slots__ = ("_span", "traceparent", "tracestate")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
        self.traceparent = carrier.get("traceparent", "")
        self.tracestate = carrier.get("tracestate", "")

    def set(self, name: str, value: Attribute) -> None:
        self._span.set_attribute(name, value)

    def current(self) -> AbstractContextManager[object]:
        return trace.use_span(
            self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        )

    def end(self, code: int = 0, message: str = "") -> None:
        self._span.set_attribute("rpc.grpc.status_code", code)
        if code:
            name = CODES[code] if 0 <= code < len(CODES) else str(code)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, f"{name}: {message}"))
        self._span.end()


def _exporter(exporter: str | SpanExporter) -> SpanExporter:
    if isinstance(exporter, SpanExporter):
        return exporter
    if exporter == "console":
        # Not stdout, which has the READY line.
        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
