"""The transport seam: what gateway, Link and entity services need of a gRPC implementation.

Everything above it is written against these names; `seedbed.grpc_transport` is the first
implementation. Messages are raw bytes: who wants protobuf parses it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from seedbed.calls import Metadata
from seedbed.errors import SeedbedError


class StatusError(SeedbedError):
    """Ends a call with a gRPC status. `details` is a serialised google.rpc.Status, or empty."""

    def __init__(
        self, code: int, message: str, *, details: bytes = b"", trailing: Metadata = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.trailing = trailing


class Disconnected(SeedbedError):
    """A stream or connection broke. `reached` is False if nothing can have arrived."""

    def __init__(self, code: int, message: str, *, reached: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reached = reached


class ServerCall(Protocol):
    """One incoming call."""

    @property
    def method(self) -> str:
        """Full path, `/package.Service/Method`."""
        ...

    @property
    def metadata(self) -> Metadata: ...

    @property
    def deadline_ns(self) -> int | None:
        """On CLOCK_BOOTTIME; None if the caller gave none."""
        ...

    @property
    def peer(self) -> str: ...

    def set_initial(self, metadata: Metadata) -> None:
        """Initial metadata, sent with the first message."""
        ...

    def set_trailing(self, metadata: Metadata) -> None: ...


Unary: TypeAlias = Callable[[ServerCall, bytes], Awaitable[bytes]]
"""Request to reply; raises `StatusError` to answer a status. Cancelled when the caller goes."""

Prompt: TypeAlias = Callable[[ServerCall, bytes], bytes | Awaitable[bytes]]
"""The same, but for a reply that is there at once nothing is awaited."""

ServerStream: TypeAlias = Callable[[ServerCall, bytes], AsyncIterator[bytes]]
"""Request to items; raises `StatusError` to end with a status. Cancelled when the caller goes."""

BidiStream: TypeAlias = Callable[[ServerCall, AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Messages to messages; the incoming iterator ends when the caller closes its side."""


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """`prompt` does the same as `handler`, for servers that can do with a reply at once."""

    handler: Unary
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class ServerStreamMethod:
    handler: ServerStream


@dataclass(frozen=True, slots=True)
class BidiMethod:
    handler: BidiStream


Method: TypeAlias = UnaryMethod | ServerStreamMethod | BidiMethod


class Methods(Protocol):
    """What a server serves, asked anew for each call (so it may change while serving)."""

    def find(self, method: str) -> Method | None:
        """The method of this path; None if another of the server's `Methods` may know it."""
        ...


class Server(Protocol):
    """A listening server. As a scope it listens from `start` until `close`."""

    async def start(self, bind: str, port: int) -> int:
        """Listen (port 0: any free); returns the port. Raises `SettingsError` if it is in use."""
        ...

    async def close(self, grace_s: float) -> None:
        """Stop listening, let running calls end within the grace, then end them."""
        ...


class Duplex(Protocol):
    """The client's side of a bidi stream."""

    async def opened(self) -> None:
        """Return when the peer has accepted the stream (its headers came). Raises as `read`."""
        ...

    async def write(self, message: bytes) -> None:
        """Send; returns when the transport took it. Raises `Disconnected`."""
        ...

    async def read(self) -> bytes | None:
        """Next message; None if the peer ended the stream with OK. Raises `Disconnected` for a
        broken one and `StatusError` for a status that the peer's application gave."""
        ...

    async def done_writing(self) -> None: ...

    def cancel(self) -> None: ...


class Connection(Protocol):
    """A client's connection to one address; connects by itself, and again after a loss."""

    async def unary(
        self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()
    ) -> bytes:
        """Raises `Disconnected` or `StatusError`."""
        ...

    def bidi(self, method: str, *, metadata: Metadata = ()) -> Duplex: ...

    async def close(self) -> None: ...


class Transport(Protocol):
    """An implementation: makes servers and connections."""

    def server(self, *methods: Methods) -> Server: ...

    def connect(self, address: str) -> Connection: ...
