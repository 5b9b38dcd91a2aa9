"""Turns tracing on if the environment asks for it, by OpenTelemetry's own variables.

On with OTEL_TRACES_EXPORTER (`otlp`, `console`) or an OTLP endpoint; else no module of
OpenTelemetry is even imported. A call without `traceparent` starts a trace only if
OTEL_TRACES_SAMPLER is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seedbed.settings import bad_setting
from seedbed.tracing import NO_TRACER, Tracer

EXPORTERS = ("otlp", "console", "none")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What the environment says about traces. The exporter reads the rest of OTEL_* itself."""

    exporter: str
    """One of `EXPORTERS`."""
    starts_traces: bool

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> TelemetrySettings:
        """Raises `SettingsError`."""
        exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
        if exporter not in ("", *EXPORTERS):
            raise bad_setting("OTEL_TRACES_EXPORTER", exporter, f"one of {', '.join(EXPORTERS)}")
        if not exporter and any(environ.get(name, "").strip() for name in _ENDPOINTS):
            exporter = "otlp"
        if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            exporter = "none"
        for name in _PROTOCOLS:
            protocol = environ.get(name, "").strip().lower()
            if exporter == "otlp" and protocol not in ("", "grpc"):
                raise bad_setting(name, protocol, "grpc, the one protocol that is built in")
        return cls(exporter or "none", bool(environ.get("OTEL_TRACES_SAMPLER", "").strip()))


class Telemetry:
    """The process's tracer from its start to `close`."""

    def __init__(self, settings: TelemetrySettings, *, service: str, node: str) -> None:
        self.tracer: Tracer = NO_TRACER
        self._close = _nothing
        if settings.exporter != "none":
            # Imported only now: a process without traces has neither its threads nor its memory.
            from seedbed.service.otel import OtelTracer

            tracer = OtelTracer(
                exporter=settings.exporter,
                starts_traces=settings.starts_traces,
                service=service,
                node=node,
            )
            self.tracer = tracer
            self._close = tracer.close

    def close(self) -> None:
        """Send what is still held back; blocks, but for 2 s at most."""
        self._close()


def _nothing() -> None:
    """Nothing to close."""
