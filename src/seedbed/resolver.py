"""Keeps a process's routes fresh from one seed at a time, and goes to the next when that fails.

A stream that ends, breaks or stays silent at its start is given up; keepalive of the transport
notices a seed that vanished later. Seeds are those of the settings and those that seeds name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from google.protobuf.message import DecodeError

from seedbed.errors import ProtocolError, SeedbedError
from seedbed.retry import backoff_s
from seedbed.transport import Duplex, Transport
from seedbed.v1 import cluster_pb2

log = logging.getLogger(__name__)

WATCH_ROUTES: Final = "/seedbed.v1.Cluster/WatchRoutes"
PROTOCOL: Final = 1
"""The version of WatchRoutes and of the Link that this release speaks."""

FIRST_UPDATE_S: Final = 6.0
"""A seed that has not read etcd yet says so after 5 s."""


class Resolver:
    """Calls `changed` with every update. It may raise `SeedbedError`: then the stream ends."""

    def __init__(
        self,
        *,
        transport: Transport,
        seeds: Sequence[str],
        random: Random,
        changed: Callable[[cluster_pb2.RouteUpdate], None],
        first_update_s: float = FIRST_UPDATE_S,
    ) -> None:
        self._transport = transport
        self._configured = tuple(seeds)
        self._told: tuple[str, ...] = ()
        self._random = random
        self._changed = changed
        self._first_update_s = first_update_s
        self.last_error = "none has answered yet"

    @property
    def seeds(self) -> tuple[str, ...]:
        """Where a seed may be found."""
        return tuple(dict.fromkeys((*self._configured, *self._told)))

    async def run(self) -> None:
        """Watch, until cancelled."""
        failures = 0
        while True:
            # Any order, so that clients spread over the seeds.
            for address in self._random.sample(self.seeds, len(self.seeds)):
                if await self._watch(address):
                    failures = 0
                    break  # it was good for a while: try all again, at once
            failures += 1
            await asyncio.sleep(backoff_s(failures, self._random))

    async def _watch(self, address: str) -> bool:
        """Follow one seed until that ends; returns whether it sent anything."""
        connection = self._transport.connect(address)
        duplex = connection.bidi(WATCH_ROUTES)
        good = False
        try:
            request = cluster_pb2.WatchRoutesRequest(protocol_min=PROTOCOL, protocol_max=PROTOCOL)
            async with asyncio.timeout(self._first_update_s):
                await duplex.write(request.SerializeToString())
                await duplex.done_writing()
                update = await _next(duplex)
            log.info("watching routes", extra={"seed": address})
            while update is not None:
                good = True
                self._take(update)
                update = await _next(duplex)
            why = "the seed ended the stream"
        except SeedbedError as error:
            why = str(error)
        except TimeoutError:
            why = f"no answer within {self._first_update_s:g} s"
        except Exception as error:
            # A client goes on without fresh routes rather than fall over.
            log.exception("resolver failed", extra={"seed": address})
            why = type(error).__name__
        finally:
            duplex.cancel()
            await connection.close()
        self.last_error = f"{address}: {why}"
        log.info("seed lost", extra={"seed": address, "why": why})
        return good

    def _take(self, update: cluster_pb2.RouteUpdate) -> None:
        if update.seeds:
            self._told = tuple(update.seeds)
        self._changed(update)


async def _next(duplex: Duplex) -> cluster_pb2.RouteUpdate | None:
    data = await duplex.read()
    if data is None:
        return None
    try:
        return cluster_pb2.RouteUpdate.FromString(data)
    except DecodeError as error:
        raise ProtocolError("what came is no RouteUpdate") from error
