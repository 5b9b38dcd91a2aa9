"""One gRPC channel per etcd endpoint, and our own choice among them.

gRPC's load balancing stays on a frozen member for a minute and more, so each endpoint has a channel
of its own, and one that fails is left for the next. A channel that was left is closed once the
calls on it have ended; the next one to that endpoint reads the TLS files again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import grpc
import grpc.aio

from seedbed_seed.retrying import Backoff
from seedbed_seed.store import StoreUnreachable

CONNECT_LIMIT_S = 1.0
"""How long one endpoint may take to be ready before the next is tried."""

RETIRE_GRACE_S = 5.0
"""How long calls on a channel that was left may go on."""

TLS_INTERVAL_S = 30.0
"""How often TLS files are looked at while the connections made with them still hold."""

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # etcd refuses pings that come more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)

Metadata: TypeAlias = tuple[tuple[str, str], ...]

HAS_LEADER: Metadata = (("hasleader", "true"),)
"""Makes a member that has lost its leader say so at once, instead of being silent."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; `cert` and `key` only if etcd asks its clients for a certificate."""

    ca: str
    cert: str | None = None
    key: str | None = None

    def read(self) -> tuple[bytes, bytes | None, bytes | None]:
        """Read the authority, the certificate and its key."""
        return (
            Path(self.ca).read_bytes(),
            Path(self.cert).read_bytes() if self.cert else None,
            Path(self.key).read_bytes() if self.key else None,
        )


class Endpoint:
    """A channel to one member, with a count of the calls on it."""

    def __init__(self, address: str, pem: tuple[bytes, bytes | None, bytes | None] | None) -> None:
        self.address = address
        self.pem = pem
        self.channel = (
            grpc.aio.insecure_channel(address, options=OPTIONS)
            if pem is None
            else grpc.aio.secure_channel(
                address, grpc.ssl_channel_credentials(pem[0], pem[2], pem[1]), options=OPTIONS
            )
        )
        self._calls = 0
        self._abandoned = False
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def call(self) -> Generator[grpc.aio.Channel, None, None]:
        """Use the channel for one call: it is not closed meanwhile (but see RETIRE_GRACE_S)."""
        self._calls += 1
        self._idle.clear()
        try:
            yield self.channel
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._idle.set()

    async def connected(self, limit_s: float) -> bool:
        """Wait until the channel is ready; False if the endpoint refuses or the time is over."""
        try:
            with self.call() as channel:
                async with asyncio.timeout(limit_s):
                    state = channel.get_state(try_to_connect=True)
                    while state is not grpc.ChannelConnectivity.READY:
                        if state in _FAILED:
                            return False
                        await channel.wait_for_state_change(state)
                        state = channel.get_state(try_to_connect=True)
        except (TimeoutError, grpc.aio.UsageError):
            # The latter: closed meanwhile, because another call found it failing.
            return False
        return True

    async def retire(self) -> None:
        """Close when the last call has ended, or after the grace period."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETIRE_GRACE_S):
                    while self._calls and not self._abandoned:
                        await self._idle.wait()
        finally:
            await self.channel.close()

    def abandon(self) -> None:
        """Let `retire` wait for nothing more."""
        self._abandoned = True
        self._idle.set()


class Channels:
    """The endpoints of one etcd cluster; one of them is current."""

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: TlsFiles | None,
        tasks: asyncio.TaskGroup,
        first: int | None = None,
    ) -> None:
        self._addresses = tuple(_address(endpoint) for endpoint in endpoints)
        if not self._addresses:
            raise ValueError("no etcd endpoint")
        secure = tls is not None or any(url.startswith("https://") for url in endpoints)
        if secure and tls is None:
            raise ValueError("an https endpoint of etcd needs the file of its authority")
        self._tls = tls
        self._tasks = tasks
        self._index = random.randrange(len(endpoints)) if first is None else first
        self._open: dict[int, Endpoint] = {}
        self._left: set[Endpoint] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._addresses)

    def _current(self) -> Endpoint:
        endpoint = self._open.get(self._index)
        if endpoint is None:
            pem = self._tls.read() if self._tls else None
            endpoint = self._open[self._index] = Endpoint(self._addresses[self._index], pem)
        return endpoint

    def failed(self, endpoint: Endpoint) -> None:
        """Leave an endpoint that did not answer, unless it was left already."""
        if self._open.get(self._index) is endpoint:
            self._leave(self._index)
            self._index = (self._index + 1) % len(self._addresses)

    async def ready(self, deadline: float) -> Endpoint:
        """Return an endpoint that is connected, by the loop's time `deadline`."""
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        tried = 0
        while True:
            endpoint = self._current_or_unreachable()
            left_s = deadline - loop.time()
            share_s = left_s / 2 if len(self) > 1 else left_s
            if await endpoint.connected(min(share_s, CONNECT_LIMIT_S)):
                return endpoint
            self.failed(endpoint)
            tried += 1
            wait_s = backoff.next_s() if tried % len(self) == 0 else 0.0
            if loop.time() + wait_s >= deadline:
                raise StoreUnreachable(f"no connection to etcd at {', '.join(self._addresses)}")
            await asyncio.sleep(wait_s)

    async def follow_tls(self, interval_s: float) -> None:
        """Notice TLS files that were replaced while the connections still hold; never ends."""
        while True:
            await asyncio.sleep(interval_s)
            with suppress(OSError):
                self.renew_tls()

    def renew_tls(self) -> None:
        """Leave all channels made with TLS files that have changed since."""
        if self._tls is None:
            return
        pem = self._tls.read()
        for index, endpoint in list(self._open.items()):
            if endpoint.pem != pem:
                self._leave(index)

    def close(self) -> None:
        """Close all channels at once (by tasks of the owner's group)."""
        for index in list(self._open):
            self._leave(index)
        for endpoint in self._left:
            endpoint.abandon()
        self._closed = True

    def _leave(self, index: int) -> None:
        endpoint = self._open.pop(index)
        self._left.add(endpoint)
        task = self._tasks.create_task(endpoint.retire(), name=f"retire etcd {endpoint.address}")
        task.add_done_callback(lambda _: self._left.discard(endpoint))

    def _current_or_unreachable(self) -> Endpoint:
        if self._closed:
            raise StoreUnreachable("the store was closed")
        try:
            return self._current()
        except OSError as error:
            raise StoreUnreachable(f"cannot read the TLS files for etcd: {error}") from error


_FAILED = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


def _address(endpoint: str) -> str:
    """Return `host:port` of `http://host:port`, `https://host:port` or `host:port`."""
    if "://" not in endpoint:
        return endpoint
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.netloc or url.path not in ("", "/"):
        raise ValueError(f"not an etcd endpoint: {endpoint}")
    return url.netloc
