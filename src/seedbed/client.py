"""The routing client: a channel for generated stubs whose calls go straight to the owners.

Here is its scope and its settings; what it holds is in `client_session`, the channel and its
calls, which only look like grpc.aio's, in `client_channel`,
`client_calls` and `client_streams`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from types import TracebackType

import grpc
import grpc.aio

from seedbed.client_channel import Channel
from seedbed.client_session import ClientSession
from seedbed.clock import SystemClock
from seedbed.grpc_transport import GrpcTransport
from seedbed.router import RouterLimits
from seedbed.settings import Reader, addresses
from seedbed.shared_settings import max_message_bytes, parking_limits, tls_files


class Client:
    """`async with Client("host:port,…") as channel:`, one for a process, open for its life.

    Without seeds it reads `SEEDBED_SEEDS`. Entering does not wait for the cluster; calls do,
    within their deadlines.
    """

    def __init__(
        self,
        seeds: str | Sequence[str] = (),
        *,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        reader = Reader(os.environ, role="client")
        text = seeds if isinstance(seeds, str) else ",".join(seeds)
        self._seeds = addresses("seeds", text) if text else reader.addresses("SEEDBED_SEEDS")
        self._limits = RouterLimits(parking_limits(reader, minimum=1))
        self._max_message_bytes = max_message_bytes(reader)
        self._authority = reader.text("SEEDBED_AUTHORITY")
        self._tls = None if credentials is not None else tls_files(reader)
        self._credentials = credentials
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> grpc.aio.Channel:
        if self._group is not None:
            raise RuntimeError("this Client is open already: one is enough for a process")
        transport = GrpcTransport(
            max_message_bytes=None,
            tls=self._tls,
            credentials=self._credentials,
            authority=self._authority,
        )
        session = ClientSession(
            transport,
            self._seeds,
            self._limits,
            SystemClock(),
            max_message_bytes=self._max_message_bytes,
        )
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._task = self._group.create_task(session.run())
        return Channel(session)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        group, self._group = self._group, None
        if self._task is not None:
            self._task.cancel()
        if group is not None:
            await group.__aexit__(None, None, None)
