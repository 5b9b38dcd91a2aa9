"""Methods by path and calls of them, for tests of the transport seam."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from seedbed.transport import Connection, Method, ServerCall, StatusError, UnaryMethod

DEADLINE_S = 5.0


class Table:
    """Methods by path."""

    def __init__(self, **methods: Method) -> None:
        self.methods = {f"/test.S/{name}": method for name, method in methods.items()}

    def find(self, method: str) -> Method | None:
        return self.methods.get(method)


def unary(handler: Callable[[ServerCall, bytes], Awaitable[bytes]]) -> Table:
    return Table(M=UnaryMethod(handler))


async def echo(call: ServerCall, request: bytes) -> bytes:
    return request


async def ask(connection: Connection, request: bytes = b"x", method: str = "M") -> bytes:
    return await connection.unary(f"/test.S/{method}", request, timeout=DEADLINE_S)


async def refused(connection: Connection, request: bytes = b"x", method: str = "M") -> StatusError:
    with pytest.raises(StatusError) as caught:
        await ask(connection, request, method)
    return caught.value
