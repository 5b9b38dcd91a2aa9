"""Leases: one keepalive stream renews them all.

An answer on that stream carries only the lease's id. So each lease has at most one renewal under
way, and a caller is answered only by a renewal that was sent after it asked: whoever comes while
one is under way waits for the next. A stream that is silent while an answer is due is torn down,
its endpoint left, and what is still asked for is sent again on a new one (a renewal may be
repeated). Nothing is sent for a caller who has given up.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.etcd.calls import (
    DEFAULT_TIMEOUT_S,
    LEASE_GRANT,
    LEASE_KEEP_ALIVE,
    LEASE_REVOKE,
    Calls,
)
from seedbed_seed.etcd.channels import Channels
from seedbed_seed.etcd.streams import Stream, StreamBrokenError, open_stream
from seedbed_seed.etcd.tasks import background
from seedbed_seed.retrying import Backoff
from seedbed_seed.store import LeaseNotFound, StoreError, StoreUnreachable

SILENCE_LIMIT_S = 1.0
"""How long the oldest renewal may go unanswered before its stream is torn down."""

_log = logging.getLogger(__name__)

_Stream: TypeAlias = Stream[wire.LeaseKeepAliveRequest, wire.LeaseKeepAliveResponse]
_Waiters: TypeAlias = list[asyncio.Future[int]]


@dataclass(slots=True)
class _UnderWay:
    """A renewal that was sent on the present stream."""

    sent_at: float
    waiters: _Waiters = field(default_factory=list[asyncio.Future[int]])


class Leases:
    """Grants, renews and revokes."""

    def __init__(self, calls: Calls, channels: Channels, tasks: asyncio.TaskGroup) -> None:
        self._calls = calls
        self._channels = channels
        self._tasks = tasks
        self._asked: dict[int, _Waiters] = {}
        self._under_way: dict[int, _UnderWay] = {}
        self._work = asyncio.Event()
        self._silence: asyncio.Timeout | None = None

    async def grant(self, lease: int, ttl_s: int, timeout: float | None) -> int:
        """Grant under an id of the caller's choosing; sent at most once."""
        if lease <= 0 or ttl_s <= 0:
            raise StoreError("a lease has a positive id and TTL")
        request = wire.LeaseGrantRequest(id=lease, ttl=ttl_s)
        answer = await self._calls.once(LEASE_GRANT, request, timeout)
        if answer.error:
            raise StoreError(answer.error)
        return answer.ttl

    async def revoke(self, lease: int, timeout: float | None) -> None:
        """End a lease; sent at most once; an unknown lease is no error."""
        with suppress(LeaseNotFound):
            await self._calls.once(LEASE_REVOKE, wire.LeaseRevokeRequest(id=lease), timeout)

    async def renew(self, lease: int, timeout: float | None) -> int:
        """Return the TTL of a renewal sent after this call began; 0 if the lease has ended."""
        timeout_s = DEFAULT_TIMEOUT_S if timeout is None else timeout
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(lease, []).append(waiter)
        self._work.set()
        try:
            async with asyncio.timeout(timeout_s):
                return max(0, await waiter)
        except TimeoutError:
            raise StoreUnreachable(f"lease {lease:x} not renewed in {timeout_s:.3f} s") from None

    async def run(self) -> None:
        """Keep a stream open for as long as anybody asks for renewals; never ends."""
        backoff = Backoff()
        while True:
            await self._somebody_asks()
            try:
                deadline = asyncio.get_running_loop().time() + SILENCE_LIMIT_S
                endpoint = await self._channels.ready(deadline)
                async with open_stream(self._channels, endpoint, LEASE_KEEP_ALIVE) as stream:
                    await self._renew_on(stream, backoff)
            except (StoreUnreachable, StreamBrokenError, TimeoutError) as error:
                _log.info("etcd keepalive stream: %s", str(error) or "silent")
                self._ask_again()
                await backoff.wait()

    async def _renew_on(self, stream: _Stream, backoff: Backoff) -> None:
        try:
            async with (
                asyncio.timeout(None) as self._silence,
                background(self._tasks, self._send(stream), "etcd keepalive sender"),
            ):
                while True:
                    self._answered(await stream.receive())
                    backoff.reset()
        finally:
            self._silence = None

    async def _send(self, stream: _Stream) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._somebody_asks()
            for lease in [lease for lease in self._asked if lease not in self._under_way]:
                waiters = _present(self._asked.pop(lease))
                if not waiters:
                    continue
                self._under_way[lease] = _UnderWay(loop.time(), waiters)
                self._await_oldest()
                try:
                    await stream.send(wire.LeaseKeepAliveRequest(id=lease))
                except StreamBrokenError:
                    return  # the reader learns it too

    async def _somebody_asks(self) -> None:
        """Wait until a renewal is wanted that is not under way."""
        while not any(lease not in self._under_way for lease in self._asked):
            self._work.clear()
            await self._work.wait()

    def _answered(self, answer: wire.LeaseKeepAliveResponse) -> None:
        renewal = self._under_way.pop(answer.id, None)
        if renewal is not None:
            for waiter in _present(renewal.waiters):
                waiter.set_result(answer.ttl)
        self._await_oldest()
        self._work.set()

    def _await_oldest(self) -> None:
        """Let the stream be torn down when the oldest renewal under way is overdue."""
        if self._silence is None:
            return
        oldest = min((renewal.sent_at for renewal in self._under_way.values()), default=None)
        self._silence.reschedule(None if oldest is None else oldest + SILENCE_LIMIT_S)

    def _ask_again(self) -> None:
        """After a stream's end: what it was to answer is asked for anew, if anybody still waits."""
        for lease, renewal in self._under_way.items():
            self._asked.setdefault(lease, []).extend(renewal.waiters)
        self._under_way.clear()
        self._asked = {
            lease: present
            for lease, waiters in self._asked.items()
            if (present := _present(waiters))
        }


def _present(waiters: _Waiters) -> _Waiters:
    return [waiter for waiter in waiters if not waiter.done()]
