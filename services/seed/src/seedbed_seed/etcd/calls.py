"""Unary calls: what changes nothing is repeated within its time, all else is sent at most once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.etcd.channels import HAS_LEADER, Channels, Endpoint
from seedbed_seed.etcd.errors import lost, read_error, write_error
from seedbed_seed.retrying import read_policy
from seedbed_seed.store import StoreUnreachable

DEFAULT_TIMEOUT_S = 2.0

ATTEMPT_LIMIT_S = 1.0
"""How long one member may take over a read before another one is asked."""

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Answer]):
    """One of etcd's calls, by its path."""

    path: str
    request: type[Request]
    answer: type[Answer]


RANGE = Method("/etcdserverpb.KV/Range", wire.RangeRequest, wire.RangeResponse)
TXN = Method("/etcdserverpb.KV/Txn", wire.TxnRequest, wire.TxnResponse)
COMPACT = Method("/etcdserverpb.KV/Compact", wire.CompactionRequest, wire.CompactionResponse)
LEASE_GRANT = Method(
    "/etcdserverpb.Lease/LeaseGrant", wire.LeaseGrantRequest, wire.LeaseGrantResponse
)
LEASE_REVOKE = Method(
    "/etcdserverpb.Lease/LeaseRevoke", wire.LeaseRevokeRequest, wire.LeaseRevokeResponse
)
LEASE_KEEP_ALIVE = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive", wire.LeaseKeepAliveRequest, wire.LeaseKeepAliveResponse
)
WATCH = Method("/etcdserverpb.Watch/Watch", wire.WatchRequest, wire.WatchResponse)
ALARM = Method("/etcdserverpb.Maintenance/Alarm", wire.AlarmRequest, wire.AlarmResponse)
STATUS = Method("/etcdserverpb.Maintenance/Status", wire.StatusRequest, wire.StatusResponse)


class Calls:
    """Makes unary calls on the current endpoint, and leaves an endpoint that does not answer."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def repeatable(
        self, method: Method[Request, Answer], request: Request, timeout: float | None = None
    ) -> Answer:
        """Make a call that changes nothing, as often as it takes within the time."""
        timeout_s = DEFAULT_TIMEOUT_S if timeout is None else timeout
        attempt_s = min(ATTEMPT_LIMIT_S, timeout_s / 2 if len(self._channels) > 1 else timeout_s)
        deadline = asyncio.get_running_loop().time() + timeout_s
        last: StoreUnreachable | None = None

        async def attempt() -> Answer:
            nonlocal last
            try:
                endpoint = await self._channels.ready(deadline)
                return await self._send(endpoint, method, request, attempt_s)
            except grpc.aio.AioRpcError as error:
                mapped = read_error(error)
                if isinstance(mapped, StoreUnreachable):
                    last = mapped
                raise mapped from error

        try:
            async with asyncio.timeout_at(deadline):
                return await read_policy(StoreUnreachable)(attempt)
        except TimeoutError:
            raise last or StoreUnreachable(f"no answer from etcd in {timeout_s:.3f} s") from None

    async def once(
        self, method: Method[Request, Answer], request: Request, timeout: float | None = None
    ) -> Answer:
        """Make a call that may change something: it leaves this process at most once."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (DEFAULT_TIMEOUT_S if timeout is None else timeout)
        endpoint = await self._channels.ready(deadline)
        left_s = deadline - loop.time()
        if left_s <= 0:
            raise StoreUnreachable("no time left to write to etcd")
        try:
            return await self._send(endpoint, method, request, left_s)
        except grpc.aio.AioRpcError as error:
            raise write_error(error) from error

    async def _send(
        self, endpoint: Endpoint, method: Method[Request, Answer], request: Request, limit_s: float
    ) -> Answer:
        with endpoint.call() as channel:
            call = channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.answer.FromString,
            )
            try:
                return await call(request, timeout=limit_s, metadata=HAS_LEADER)
            except grpc.aio.AioRpcError as error:
                if lost(error):
                    self._channels.failed(endpoint)
                raise
            except asyncio.CancelledError:
                if being_cancelled():
                    raise
                raise _channel_closed() from None


def being_cancelled() -> bool:
    """Tell whether a CancelledError is meant for this task (else a closed channel made it)."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _channel_closed() -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(
        grpc.StatusCode.CANCELLED, nothing, nothing, "its channel was closed"
    )
