"""On whose behalf calls are made: what a channel and its calls need of a client or of an entity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from seedbed.calls import EntityCall, Failed

if TYPE_CHECKING:
    import grpc.aio  # only named: who makes calls need not load it

    from seedbed.client_calls import UnaryCall
    from seedbed.client_session import ClientSession


AnyCall: TypeAlias = "UnaryCall[Any, Any]"  # whatever its messages are


class Caller(Protocol):
    """A client, or one turn of an entity."""

    def deadline_ns(self, timeout: float | None, *, stream: bool) -> int | None:
        """The deadline of a call that starts now; `timeout` in seconds."""
        ...

    def made(self, call: AnyCall | None) -> None:
        """A call was made, though it may not leave yet; None: a stream."""
        ...

    def prepare(self, call: EntityCall) -> None:
        """Fill in the caller's part; raises `CallError` for a call that must not leave."""
        ...

    def forget(self, ready: Callable[[], None]) -> None:
        """A call that waits for the first routes has ended: `ready` need not be called."""
        ...

    def lets(self, call: AnyCall) -> bool:
        """Whether a unary call may leave now; if not, its `leave()` is called later."""
        ...

    def error(self, outcome: Failed, path: str, call: EntityCall | None) -> grpc.aio.AioRpcError:
        """What is raised for a call that failed; `call` is None if it had no good request."""
        ...


class Callers(Protocol):
    """What a channel belongs to."""

    @property
    def session(self) -> ClientSession:
        """Carries the calls."""
        ...

    def caller(self) -> Caller:
        """Whoever makes a call just now. Raises `RuntimeError` where none may be made."""
        ...

    async def ready(self) -> None:
        """Return when the first routes are there."""
        ...
