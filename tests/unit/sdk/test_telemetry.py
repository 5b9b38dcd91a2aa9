"""Traces are recorded only when asked for, and the call path can tell without OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from seedbed.errors import SettingsError
from seedbed.service.otel import OtelTracer
from seedbed.service.telemetry import Telemetry, TelemetrySettings
from seedbed.tracing import NO_TRACER, Kind, sampled

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
METHOD = "/shop.v1.Cart/Get"


class Exporter(SpanExporter):
    """Keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


def tracer(exporter: Exporter, *, starts_traces: bool = False) -> OtelTracer:
    return OtelTracer(
        exporter=exporter, starts_traces=starts_traces, service="seedbed-seed", node="s-1"
    )


@pytest.mark.parametrize(
    ("traceparent", "recorded"),
    [
        (SAMPLED, True),
        (SAMPLED[:-1] + "0", False),
        (SAMPLED[:-2] + "03", True),
        (SAMPLED[:-2] + "0f", True),
        (SAMPLED[:-2] + "02", False),
        (SAMPLED + "-more", True),
        ("", False),
        ("00-1-2-01", False),
        (SAMPLED[:-1], False),
    ],
)
def test_the_sampled_flag_is_read_from_the_text(traceparent: str, recorded: bool) -> None:
    assert sampled(traceparent) is recorded


@pytest.mark.parametrize(
    ("environ", "exporter"),
    [
        ({}, "none"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4317"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, "none"),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, "none"),
    ],
)
def test_tracing_is_on_only_if_asked_for(environ: dict[str, str], exporter: str) -> None:
    settings = TelemetrySettings.read(environ)
    assert settings.exporter == exporter
    assert settings.starts_traces is ("OTEL_TRACES_SAMPLER" in environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_what_is_not_built_in_is_a_settings_error(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="OTEL_"):
        TelemetrySettings.read(environ)


def test_a_process_without_traces_never_loads_opentelemetry() -> None:
    program = (
        "import sys, seedbed.service.telemetry as t\n"
        "x = t.Telemetry(t.TelemetrySettings.read({}), service='s', node='n'); x.close()\n"
        "assert not any(m.startswith('opentelemetry') for m in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_no_tracer_passes_the_parent_on() -> None:
    assert not NO_TRACER.wants(SAMPLED)
    span = NO_TRACER.span(Kind.EDGE, METHOD, SAMPLED, "a=b")
    assert (span.traceparent, span.tracestate) == (SAMPLED, "a=b")
    with span.current():
        span.end(14, "x")


def test_only_sampled_calls_are_wanted() -> None:
    plain, starting = tracer(Exporter()), tracer(Exporter(), starts_traces=True)
    assert plain.wants(SAMPLED)
    assert not plain.wants("")
    assert starting.wants("")
    assert not starting.wants(SAMPLED[:-2] + "00")
    plain.close()
    starting.close()


def test_spans_of_a_call_form_one_trace() -> None:
    exporter = Exporter()
    traced = tracer(exporter)
    edge = traced.span(Kind.EDGE, METHOD, SAMPLED, "a=b", {"seedbed.type": "cart"})
    turn = traced.span(Kind.TURN, METHOD, edge.traceparent, edge.tracestate)
    assert sampled(turn.traceparent)
    assert edge.tracestate == "a=b"
    with turn.current():
        assert trace.get_current_span().get_span_context().trace_id == int(TRACE, 16)
    assert not trace.get_current_span().get_span_context().is_valid
    turn.end()
    edge.end(14, "nobody there")
    traced.close()

    inner, outer = exporter.spans
    assert (inner.name, outer.name) == ("turn shop.v1.Cart/Get", "edge shop.v1.Cart/Get")
    assert outer.parent is not None
    assert outer.parent.span_id == int(PARENT, 16)
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert outer.status.description == "UNAVAILABLE: nobody there"
    assert outer.attributes is not None
    assert outer.attributes["seedbed.type"] == "cart"
    assert outer.attributes["rpc.method"] == "Get"
    assert outer.resource.attributes["service.name"] == "seedbed-seed"
    assert outer.resource.attributes["service.instance.id"] == "s-1"


def test_a_bad_traceparent_starts_a_trace_of_its_own() -> None:
    exporter = Exporter()
    traced = tracer(exporter)
    span = traced.span(Kind.EDGE, METHOD, "00-" + "z" * 32 + "-" + PARENT + "-01")
    span.end()
    traced.close()
    assert exporter.spans[0].parent is None


def test_a_collector_that_is_not_there_does_not_hold_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    telemetry = Telemetry(TelemetrySettings.read(environ), service="s", node="n")
    telemetry.tracer.span(Kind.EDGE, METHOD, SAMPLED).end()
    telemetry.close()
