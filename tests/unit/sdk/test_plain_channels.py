"""What plain gRPC channels, blocking and asyncio, make of our statuses and service config."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import MethodOptions

from seedbed.errors import CallError, Reason
from seedbed.grpc_transport import GrpcTransport
from seedbed.helpers import service_config
from seedbed.service.health import Health
from seedbed.status import DETAILS_KEY, failed, reason, status_error
from seedbed.transport import Method, ServerCall, UnaryMethod
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


class Echo:
    """A server of ours, as seeds are: it has a health, and answers calls with their requests."""

    def __init__(self) -> None:
        self.health = Health()
        self.health.set(ready=True)
        self.calls = 0
        transport = GrpcTransport(max_message_bytes=None)
        self.server = transport.server(self.health, self)

    def find(self, method: str) -> Method | None:
        return UnaryMethod(self._answer)

    async def _answer(self, call: ServerCall, request: bytes) -> bytes:
        self.calls += 1
        return request


async def test_a_server_that_says_it_stops_gets_no_more_calls() -> None:
    first, second = Echo(), Echo()
    ports = [await one.server.start("127.0.0.1", 0) for one in (first, second)]
    options = [("grpc.service_config", service_config(THING.file))]
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        put: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/demo.Thing/Put")

        async def until_calls(*wanted: int) -> None:
            """Call, until ten calls in a row are spread like this."""
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    before = first.calls, second.calls
                    for _ in range(10):
                        await put(b"hello", timeout=DEADLINE_S)
                    if (first.calls - before[0], second.calls - before[1]) == wanted:
                        return

        await until_calls(5, 5)
        first.health.set(ready=False)
        await until_calls(0, 10)
        seen = first.calls
        await until_calls(0, 10)
        assert first.calls == seen
        first.health.set(ready=True)
        await until_calls(5, 5)
    for one in (first, second):
        await one.server.close(0)
