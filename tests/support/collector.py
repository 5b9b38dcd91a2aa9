"""A real OTLP/gRPC collector in the test's process: it keeps the spans that it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from seedbed import ServicerContext

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass
class Collector:
    """Spans by trace id (hex), in the order of their arrival, with their service's name."""

    endpoint: str = ""
    spans: dict[str, list[tuple[str, Span]]] = field(
        default_factory=dict[str, list[tuple[str, Span]]]
    )

    async def export(
        self, request: pb.ExportTraceServiceRequest, context: ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = [
                a.value.string_value
                for a in resource.resource.attributes
                if a.key == "service.name"
            ]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.trace_id.hex(), []).append((names[0], span))
        return pb.ExportTraceServiceResponse()


@asynccontextmanager
async def collector() -> AsyncGenerator[Collector, None]:
    """A collector on a free port."""
    running = Collector()
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        running.export,
        request_deserializer=pb.ExportTraceServiceRequest.FromString,
        response_serializer=pb.ExportTraceServiceResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Export": method}),)
    )
    running.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield running
    finally:
        await server.stop(None)
