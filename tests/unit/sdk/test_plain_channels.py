"""What plain gRPC channels, blocking and asyncio, make of our statuses and service config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from google.protobuf.descriptor_pb2 import MethodOptions
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from seedbed.clock import SystemClock
from seedbed.errors import CallError, Reason
from seedbed.helpers import service_config
from seedbed.status import DETAILS_KEY, failed, reason, status_error
from tests.unit.sdk.dynamic import field, message, method, service, service_of

DEADLINE_S = 10
THING = service_of(
    message("Ref", field("id", 1, key=True)),
    service(method("Get", "Ref", level=MethodOptions.IDEMPOTENT), method("Put", "Ref")),
)


class Refusing(grpc.GenericRpcHandler):
    """Answers MOVING to the first two attempts of a call, then its bytes."""

    def __init__(self) -> None:
        self.attempts = Counter[str]()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        path = handler_call_details.method
        if not path.startswith("/demo.Thing/"):
            return None  # health, which it has not: then gRPC takes it for healthy

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.attempts[path] += 1
            if self.attempts[path] <= 2:
                error = status_error(failed(CallError(Reason.MOVING, "moving", retry_after_s=0.01)))
                context.set_trailing_metadata((*error.trailing, (DETAILS_KEY, error.details)))
                context.abort(grpc.StatusCode.UNAVAILABLE, error.message)
            return request

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def refusing() -> Refusing:
    return Refusing()


@pytest.fixture
def address(refusing: Refusing) -> Iterator[str]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        server = grpc.server(pool, handlers=[refusing], options=[("grpc.so_reuseport", 0)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait(DEADLINE_S)


def same(data: bytes) -> bytes:
    return data


def test_grpc_retries_the_methods_that_may_be_repeated(address: str, refusing: Refusing) -> None:
    options = [("grpc.service_config", service_config(THING.file))]
    with grpc.insecure_channel(address, options=options) as channel:
        get = channel.unary_unary("/demo.Thing/Get", same, same)
        assert get(b"hello", timeout=DEADLINE_S) == b"hello"
    assert refusing.attempts["/demo.Thing/Get"] == 3


def test_grpc_does_not_retry_the_others_and_their_reason_can_be_read(
    address: str, refusing: Refusing
) -> None:
    options = [("grpc.service_config", service_config(THING.file))]
    with grpc.insecure_channel(address, options=options) as channel:
        put = channel.unary_unary("/demo.Thing/Put", same, same)
        with pytest.raises(grpc.RpcError) as raised:
            put(b"hello", timeout=DEADLINE_S)
    assert reason(raised.value) == "MOVING"
    assert refusing.attempts["/demo.Thing/Put"] == 1


async def test_the_reason_of_an_asyncio_call_can_be_read(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        put = channel.unary_unary("/demo.Thing/Put", same, same)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await put(b"hello", timeout=DEADLINE_S)
    assert reason(raised.value) == "MOVING"


def test_a_server_that_says_it_stops_gets_no_more_calls() -> None:
    servers = [(HealthServicer(), Echo()) for _ in range(2)]
    with ExitStack() as stack:
        ports = [stack.enter_context(served(*one)) for one in servers]
        options = [("grpc.service_config", service_config(THING.file))]
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        channel = stack.enter_context(grpc.insecure_channel(target, options=options))
        put = channel.unary_unary("/demo.Thing/Put", same, same)

        def calls(of: Echo) -> int:
            before = of.calls
            for _ in range(10):
                put(b"hello", timeout=DEADLINE_S)
            return of.calls - before

        (first_health, first), (_, second) = servers
        wait_until(lambda: calls(first) == 5)
        first_health.set("", HealthCheckResponse.NOT_SERVING)
        wait_until(lambda: calls(second) == 10)
        assert calls(first) == 0
        first_health.set("", HealthCheckResponse.SERVING)
        wait_until(lambda: calls(first) == 5)


class Echo(grpc.GenericRpcHandler):
    """Answers each call with its request."""

    def __init__(self) -> None:
        self.calls = 0

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if not handler_call_details.method.startswith("/demo.Thing/"):
            return None
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        return request


@contextmanager
def served(health: HealthServicer, handler: grpc.GenericRpcHandler) -> Iterator[int]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        server = grpc.server(pool, handlers=[handler], options=[("grpc.so_reuseport", 0)])
        add_HealthServicer_to_server(health, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield port
        server.stop(None).wait(DEADLINE_S)


def wait_until(holds: Callable[[], bool]) -> None:
    clock = SystemClock()
    end_ns = clock.now_ns() + int(DEADLINE_S * 1e9)
    while not holds():
        assert clock.now_ns() < end_ns, "the channel does not follow the servers' health"
