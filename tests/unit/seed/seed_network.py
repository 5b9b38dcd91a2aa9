"""Seeds that reach each other without sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed.calls import Metadata
from seedbed.errors import CallError
from seedbed.status import failed, status_error
from seedbed.transport import (
    Connection,
    Disconnected,
    Duplex,
    Methods,
    Server,
    Transport,
    UnaryMethod,
)
from tests.unit.seed.scripted import ScriptedCall

if TYPE_CHECKING:
    from tests.unit.seed.desk import Desk  # desks are on a network


class SeedNetwork(Transport):
    """Seeds that reach each other where their records say, without sockets."""

    def __init__(self) -> None:
        self._desks: dict[str, Desk] = {}
        self.asked: list[str] = []
        """Addresses of the calls so far."""
        self.down = False
        """Nobody reaches anybody."""

    def enter(self, desk: Desk) -> int:
        """Give the seed a port of its own."""
        port = 4684 + len(self._desks)
        self._desks[f"127.0.0.1:{port}"] = desk
        return port

    def server(self, *methods: Methods) -> Server:
        raise NotImplementedError

    def connect(self, address: str) -> Connection:
        return _SeedConnection(self, address)

    async def call(
        self, address: str, method: str, request: bytes, metadata: Metadata = ()
    ) -> bytes:
        self.asked.append(address)
        desk = self._desks.get(address)
        if desk is None or self.down:
            raise Disconnected(14, "connection refused", reached=False)
        known = desk.epochs.find(method) or desk.admin.find(method)
        assert isinstance(known, UnaryMethod)
        try:
            return await known.handler(ScriptedCall(method, metadata), request)
        except CallError as error:
            raise status_error(failed(error)) from error


class _SeedConnection(Connection):
    def __init__(self, network: SeedNetwork, address: str) -> None:
        self._network = network
        self._address = address

    async def unary(
        self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()
    ) -> bytes:
        return await self._network.call(self._address, method, request, metadata)

    def bidi(self, method: str, *, metadata: Metadata = ()) -> Duplex:
        raise NotImplementedError

    async def close(self) -> None:
        pass
