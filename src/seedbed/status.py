"""Errors to gRPC statuses and back: the only such table.

What each reason means to a caller, and what to do about it, is in `docs/errors.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from logging import Logger
from math import ceil
from typing import Final, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from seedbed.calls import Failed, Metadata
from seedbed.errors import CallError, Reason
from seedbed.transport import StatusError

DOMAIN = "seedbed"
"""`ErrorInfo.domain` of every error that is Seedbed's own."""

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata that carries a serialised google.rpc.Status."""

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata that tells gRPC's own retries how long to wait."""

_CODES: Final = {
    Reason.NO_WORKERS: grpc.StatusCode.UNAVAILABLE,
    Reason.MOVING: grpc.StatusCode.UNAVAILABLE,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.OUTCOME_UNKNOWN: grpc.StatusCode.UNKNOWN,
    Reason.CALL_CYCLE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.REQUEST_ID_REUSED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.REQUEST_TOO_OLD: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.STORE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.FENCED: grpc.StatusCode.ABORTED,
    Reason.UNKNOWN_METHOD: grpc.StatusCode.UNIMPLEMENTED,
    Reason.BAD_KEY: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.STORE_FULL: grpc.StatusCode.UNAVAILABLE,
    Reason.NAME_TAKEN: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.WRONG_JOURNAL: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.PROTOCOL: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.INCOMPATIBLE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.NOT_OWNER: grpc.StatusCode.UNAVAILABLE,
    Reason.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.SEED_NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Reason.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_UNKNOWN: Final = 2
_NUMBERS: Final[dict[Reason, int]] = {reason: code.value[0] for reason, code in _CODES.items()}


def code_of(reason: Reason) -> int:
    """Number of the gRPC status code that goes with a reason."""
    return _NUMBERS[reason]


def failed(error: CallError, *, started: bool = False) -> Failed:
    """The outcome of a call that Seedbed itself ends with this error."""
    return Failed(
        code=code_of(error.reason),
        message=error.message,
        reason=error.reason,
        started=started,
        details=_details(error.reason, error.message, error.retry_after_s),
        retry_after_s=error.retry_after_s,
    )


def status_error(failed: Failed) -> StatusError:
    """What answers this outcome to a gRPC caller, with the push-back for its own retries."""
    details = failed.details
    if failed.reason is not None and not details:
        details = _details(failed.reason, failed.message, failed.retry_after_s)
    trailing: Metadata = failed.trailing
    if failed.retry_after_s is not None:
        trailing = (*trailing, (PUSHBACK_KEY, str(ceil(failed.retry_after_s * 1000))))
    return StatusError(failed.code, failed.message, details=details, trailing=trailing)


def shown(error: Exception, method: str, log: Logger) -> StatusError:
    """What a handler's error says to the caller; of one that is not ours only its class is shown.

    The rest of that goes to the log.
    """
    if isinstance(error, StatusError):
        return error
    if isinstance(error, CallError):
        return status_error(failed(error))
    log.error("handler failed", extra={"method": method}, exc_info=error)
    return StatusError(_UNKNOWN, type(error).__name__)


def reason_of(details: bytes) -> Reason | None:
    """The reason in a serialised google.rpc.Status; None if there is none that we know."""
    try:
        return Reason(_reason_text(details))
    except ValueError:
        return None


def reason(error: grpc.RpcError) -> str:
    """Why Seedbed refused a call: a reason of `docs/errors.md`; empty for any other error.

    Takes the errors of `grpc` and of `grpc.aio`.
    """
    # A bare RpcError has no metadata, whatever its stub says.
    read: _ReadMetadata | None = getattr(error, "trailing_metadata", None)
    for name, value in (read() if read is not None else None) or ():
        if name == DETAILS_KEY:
            return _reason_text(value.encode() if isinstance(value, str) else value)
    return ""


_ReadMetadata: TypeAlias = Callable[[], Iterable[tuple[str, str | bytes]] | None]


def _reason_text(details: bytes) -> str:
    try:
        status = Status.FromString(details)
        for detail in status.details:
            info = ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info.reason
    except DecodeError:
        pass  # not ours to complain about: whatever is there, it is no reason of ours
    return ""


def _details(reason: Reason, message: str, retry_after_s: float | None) -> bytes:
    status = Status(code=code_of(reason), message=message)
    status.details.add().Pack(ErrorInfo(domain=DOMAIN, reason=reason.value))
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(ceil(retry_after_s * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return status.SerializeToString()
