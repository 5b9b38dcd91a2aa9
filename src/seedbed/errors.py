"""The one tree of Seedbed's errors.

    SeedbedError
    ├── CallError             a call ended with a status; has a Reason, says whether it may have run
    ├── ContractError         a .proto service cannot be an entity; names file, message, field
    ├── SettingsError         a setting is wrong; names the variable
    ├── StateError            a state cannot be serialised or read; names the field (UNKNOWN)
    │   └── UnreadableState   what is stored of an entity; names it (UNKNOWN)
    └── ProtocolError         a peer sent what the protocol does not allow

`reason` tables and gRPC codes are in `seedbed.status`; what callers see is in `docs/errors.md`.
"""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a call or a registration was refused: `ErrorInfo.reason` in domain `seedbed`."""

    NO_WORKERS = "NO_WORKERS"
    MOVING = "MOVING"
    OVERLOADED = "OVERLOADED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    CALL_CYCLE = "CALL_CYCLE"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    REQUEST_TOO_OLD = "REQUEST_TOO_OLD"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    FENCED = "FENCED"
    UNKNOWN_METHOD = "UNKNOWN_METHOD"
    BAD_KEY = "BAD_KEY"
    BAD_REQUEST = "BAD_REQUEST"
    TOO_LARGE = "TOO_LARGE"
    STORE_FULL = "STORE_FULL"
    NAME_TAKEN = "NAME_TAKEN"
    WRONG_JOURNAL = "WRONG_JOURNAL"
    PROTOCOL = "PROTOCOL"
    INCOMPATIBLE = "INCOMPATIBLE"
    NOT_OWNER = "NOT_OWNER"
    DENIED = "DENIED"
    SEED_NOT_READY = "SEED_NOT_READY"
    DEADLINE = "DEADLINE"


class SeedbedError(Exception):
    """Base of every error that Seedbed raises on purpose."""


class CallError(SeedbedError):
    """A call that Seedbed itself ends, with the reason that its caller sees.

    `retry_after_s` is set where waiting helps (it becomes RetryInfo and the retry push-back).
    """

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


class ContractError(SeedbedError):
    """A service or class cannot be an entity; the text names the place and what to do.

    `symbol` is the full name of the message, field, service or method of a .proto file at fault.
    """

    def __init__(self, message: str, *, symbol: str = "") -> None:
        super().__init__(message)
        self.symbol = symbol


class SettingsError(SeedbedError):
    """A setting is wrong; the text names the variable, what was found, what is expected."""


class StateError(SeedbedError):
    """A state cannot be serialised or read; the text names the place in it and what to do."""


class UnreadableState(StateError):
    """What is stored of an entity cannot be read: the entity is not made. The text names it, and
    its callers see it."""


class ProtocolError(SeedbedError):
    """A peer sent bytes or a message that the protocol does not allow."""
