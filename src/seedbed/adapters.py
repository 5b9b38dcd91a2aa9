"""The gRPC objects that users hold: what a method gets as its `context`.

With the transport itself the one place that imports grpc.aio. `EntityContext` is a real
`grpc.aio.ServicerContext`, so that a servicer written for grpc.aio runs as an entity unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias, cast

import grpc
import grpc.aio

from seedbed.calls import EntityCall, Failed, Metadata
from seedbed.clock import Clock
from seedbed.grpc_codes import number_of_code
from seedbed.status import DETAILS_KEY

ServicerContext: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""The annotation for `context`: any, since generated servicers say no more than that."""

_Pairs: TypeAlias = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]
_Base: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class EntityContext(grpc.aio.ServicerContext[object, object]):
    """The context of one call.

    The host reads `aborted` (the status of an `abort`, which stands whatever the method does
    afterwards), `status` (what `set_code` and `set_details` made), `initial` and `trailing`; none
    of them unless it is `touched`.
    """

    aborted: Failed | None = None
    initial: Metadata = ()
    trailing: Metadata = ()
    _initial_sent = False
    _code: int | None = None
    _details = ""
    _callbacks: tuple[Callable[[_Base], object], ...] = ()

    def __init__(self, call: EntityCall, clock: Clock) -> None:
        self._call = call
        self._clock = clock
        self.touched = False
        """The method has said something by it."""
        self.ended = False

    @property
    def status(self) -> Failed | None:
        """What the method answers beside (or instead of) a reply; None for a plain reply."""
        code = self._code
        if code is None or (code == 0 and not self._details):
            return None
        details, trailing = _split_details(self.trailing)
        return Failed(
            code, self._details, started=True, details=details, initial=self.initial,
            trailing=trailing,
        )  # fmt: skip

    def end(self) -> None:
        """The call has ended: tell those who asked."""
        self.ended = True
        for callback in self._callbacks:
            callback(self)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: _Pairs = ()
    ) -> NoReturn:
        if code is grpc.StatusCode.OK:
            raise ValueError("abort fails a call: return a reply to answer OK")
        self._abort(number_of_code(code), details, _pairs(trailing_metadata))

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        # The stub of grpc.Status leaves its fields untyped.
        code = status.code
        details = cast("str | None", status.details)
        trailing = cast("Sequence[tuple[str, str | bytes]] | None", status.trailing_metadata)
        if code is grpc.StatusCode.OK:
            raise ValueError("abort fails a call: return a reply to answer OK")
        self._abort(number_of_code(code), details or "", _pairs(trailing or ()))

    def _abort(self, code: int, message: str, trailing: Metadata) -> NoReturn:
        self.touched = True
        if self.aborted is None:
            details, rest = _split_details((*self.trailing, *trailing))
            self.aborted = Failed(
                code, message, started=True, details=details, initial=self.initial, trailing=rest
            )
        raise grpc.aio.AbortError("Locally aborted.")

    def set_code(self, code: grpc.StatusCode) -> None:
        """Answer this status with a normal return: the turn succeeds and keeps its changes."""
        self.touched = True
        self._code = number_of_code(code)

    def set_details(self, details: str) -> None:
        self.touched = True
        self._details = details

    def code(self) -> grpc.StatusCode:
        # grpc.aio gives what was set, as a number, and 0 before.
        return cast("grpc.StatusCode", self._code or 0)

    def details(self) -> str:
        return self._details

    def invocation_metadata(self) -> grpc.aio.Metadata:
        """What the caller sent, less what belongs to gRPC and to Seedbed."""
        return grpc.aio.Metadata(*self._call.metadata)

    async def send_initial_metadata(self, initial_metadata: _Pairs) -> None:
        """Once only; it leaves with the reply or the first item."""
        if self._initial_sent:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        self.touched = True
        self._initial_sent = True
        self.initial = _pairs(initial_metadata)

    def set_trailing_metadata(self, trailing_metadata: _Pairs) -> None:
        self.touched = True
        self.trailing = _pairs(trailing_metadata)

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*self.trailing)

    def time_remaining(self) -> float:
        """Seconds until the deadline; None without one."""
        deadline_ns = self._call.deadline_ns
        if deadline_ns is None:
            return cast("float", None)  # the stub says float; grpc.aio returns None here
        return max(0.0, (deadline_ns - self._clock.now_ns()) / 1e9)

    def add_done_callback(self, callback: Callable[[_Base], object]) -> None:
        self.touched = True
        self._callbacks = (*self._callbacks, callback)

    def cancelled(self) -> bool:
        """Always False: a caller that goes away does not cancel a turn."""
        return False

    def done(self) -> bool:
        return self.ended

    async def read(self) -> NoReturn:
        raise NotImplementedError("context.read(): an entity's method gets one request")

    async def write(self, message: object) -> NoReturn:
        raise NotImplementedError("context.write(): use `yield` in an async generator")

    def set_compression(self, compression: grpc.Compression) -> NoReturn:
        raise NotImplementedError("replies pass through a seed: set compression on the client")

    def disable_next_message_compression(self) -> NoReturn:
        raise NotImplementedError("replies pass through a seed: set compression on the client")

    def peer(self) -> NoReturn:
        raise NotImplementedError("calls pass through a seed: who called is self.turn.caller")

    def peer_identities(self) -> NoReturn:
        raise NotImplementedError("calls pass through a seed: who called is self.turn.caller")

    def peer_identity_key(self) -> NoReturn:
        raise NotImplementedError("calls pass through a seed: who called is self.turn.caller")

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        raise NotImplementedError("calls pass through a seed: who called is self.turn.caller")


def _pairs(metadata: _Pairs) -> Metadata:
    pairs: list[tuple[str, str | bytes]] = []
    for name, value in metadata:
        if name.endswith("-bin") != isinstance(value, bytes):
            raise TypeError(f"metadata {name}: bytes go under names that end in -bin, only there")
        pairs.append((name.lower(), value))
    return tuple(pairs)


def _split_details(trailing: Metadata) -> tuple[bytes, Metadata]:
    """The google.rpc.Status that grpc_status put into trailing metadata, and the rest."""
    details = b""
    rest: list[tuple[str, str | bytes]] = []
    for name, value in trailing:
        if name == DETAILS_KEY and isinstance(value, bytes):
            details = value
        else:
            rest.append((name, value))
    return details, tuple(rest)
