"""Evidence of death: a heuristic that makes a crash cheap, never a proof.

Nobody listens where this seed has reached the member before, or another incarnation answers there.
Anything else (a time-out, a reset, a proxy that accepts) says nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from google.protobuf.message import DecodeError

from seedbed.clock import Clock
from seedbed.routing import address
from seedbed.transport import Disconnected, StatusError, Transport
from seedbed.v1 import link_pb2

IDENTIFY = "/seedbed.v1.Link/Identify"

DIALS = 3
DIALS_WITHIN_S = 0.3
"""Three refusals in a row within this time are evidence; one alone could be a full backlog."""

MAX_DIALS = 6
"""A stream may end before its process's listener does (measured: for about a millisecond), and a
dial into that is reset. That says nothing, so it only begins the count of refusals anew."""

BUDGET_SHARE = 10
"""Of the members, one in ten (at least one) may go by evidence within a TTL: a firewall rule that
rejects looks the same for all of them."""


class Silence(Enum):
    """What a dial can show beside an answer."""

    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Identified:
    """A Seedbed worker answered."""

    node_id: str
    incarnation: str


Dialled: TypeAlias = Identified | Silence


class Dialler:
    """Looks who listens at a member's address."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def dial(self, host: str, port: int, timeout_s: float) -> Dialled:
        """Connect, then ask for the name; ends within the time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                # A plain dial first: gRPC does not tell a refusal from other failures.
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return await self._identify(host, port, timeout_s)
        except ConnectionRefusedError:
            return Silence.REFUSED
        except (OSError, TimeoutError):
            return Silence.UNKNOWN

    async def _identify(self, host: str, port: int, timeout_s: float) -> Dialled:
        connection = self._transport.connect(address(host, port))
        try:
            reply = await connection.unary(
                IDENTIFY, link_pb2.IdentifyRequest().SerializeToString(), timeout=timeout_s
            )
            identity = link_pb2.IdentifyResponse.FromString(reply)
        except (Disconnected, StatusError, DecodeError):
            return Silence.UNKNOWN
        finally:
            await connection.close()
        if not identity.incarnation:
            return Silence.UNKNOWN
        return Identified(identity.node_id, identity.incarnation)

    async def is_dead(self, host: str, port: int, incarnation: str) -> bool:
        """Whether this address shows that the incarnation is gone."""
        pause_s = DIALS_WITHIN_S / DIALS
        refused = 0
        for _ in range(MAX_DIALS):
            await asyncio.sleep(pause_s)
            match await self.dial(host, port, pause_s):
                case Identified(_, found):
                    return found != incarnation
                case Silence.UNKNOWN:
                    refused = 0
                case Silence.REFUSED:
                    refused += 1
            if refused == DIALS:
                return True
        return False


class Budget:
    """How many members may go by evidence within one TTL."""

    def __init__(self, clock: Clock, ttl_s: float) -> None:
        self._clock = clock
        self._ttl_ns = int(ttl_s * 1e9)
        self._spent: deque[int] = deque()

    def take(self, members: int) -> bool:
        """Spend one, if there is one left with so many members."""
        now_ns = self._clock.now_ns()
        while self._spent and now_ns - self._spent[0] >= self._ttl_ns:
            self._spent.popleft()
        if len(self._spent) >= max(1, members // BUDGET_SHARE):
            return False
        self._spent.append(now_ns)
        return True


def is_literal(host: str) -> bool:
    """Whether this is an IP address; a name may lead somewhere else each time."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
