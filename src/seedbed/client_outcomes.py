"""Outcomes as grpc.aio shows them: messages, errors, trailing metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc.aio

from seedbed.calls import Failed, Metadata, Replied
from seedbed.grpc_codes import code_of_number
from seedbed.status import DETAILS_KEY, status_error

Res = TypeVar("Res")


def rpc_error(outcome: Failed) -> grpc.aio.AioRpcError:
    """The error that grpc.aio raises for this outcome; `seedbed.reason` reads it."""
    return grpc.aio.AioRpcError(
        code_of_number(outcome.code),
        grpc.aio.Metadata(*outcome.initial),
        grpc.aio.Metadata(*trailing_of(outcome)),
        outcome.message,
    )


def trailing_of(outcome: Replied | Failed) -> Metadata:
    """Trailing metadata of an outcome, with the details of its status."""
    if isinstance(outcome, Replied) or outcome.code == 0:
        return outcome.trailing
    error = status_error(outcome)
    return (*error.trailing, (DETAILS_KEY, error.details)) if error.details else error.trailing


def message_of(deserialize: Callable[[bytes], Res] | None, data: bytes) -> Res:
    """The message in these bytes, as the stub wants it."""
    if deserialize is None:
        return data  # type: ignore[return-value]  # without one, Res is bytes, as in grpc.aio
    return deserialize(data)
