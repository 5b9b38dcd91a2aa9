"""How a command fails: what it prints, and its exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum

import grpc
import typer

from seedbed.errors import SettingsError
from seedbed.status import reason as reason_of

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


class Form(Enum):
    """Values of `-o`."""

    TABLE = "table"
    JSON = "json"


class Failure(Exception):
    """Ends a command; shown as `CODE: message (REASON)` or as JSON."""

    def __init__(self, code: str, message: str, *, reason: str = "", exit_code: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.exit_code = exit_code


def refused(code: str, message: str) -> Failure:
    """The cluster answered, and the answer is no."""
    return Failure(code, message, exit_code=EXIT_FAILED)


def wrong_usage(message: str) -> Failure:
    """The command line itself is wrong."""
    return Failure("INVALID_ARGUMENT", message, exit_code=EXIT_USAGE)


def unreachable(message: str) -> Failure:
    """No seed answers."""
    return Failure("UNAVAILABLE", message, exit_code=EXIT_UNREACHABLE)


def of_rpc(error: grpc.RpcError) -> Failure:
    """The failure that a call's status is."""
    reason = reason_of(error)
    # Without a reason of ours it was gRPC itself that did not get through.
    lost = error.code() is grpc.StatusCode.UNAVAILABLE and not reason
    return Failure(
        error.code().name,
        error.details() or "",
        reason=reason,
        exit_code=EXIT_UNREACHABLE if lost else EXIT_FAILED,
    )


def show(failure: Failure, form: Form) -> None:
    """Print to stderr."""
    if form is Form.JSON:
        body = {"code": failure.code, "reason": failure.reason, "message": failure.message}
        print(json.dumps(body, ensure_ascii=False), file=sys.stderr)
    else:
        reason = f" ({failure.reason})" if failure.reason else ""
        print(f"seedbed: {failure.code}: {failure.message}{reason}", file=sys.stderr)


@contextmanager
def reporting(form: Form) -> Generator[None]:
    """Turns what a command raises into its exit."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except (Failure, grpc.RpcError, SettingsError) as error:
        failure = _failure(error)
        show(failure, form)
        raise typer.Exit(failure.exit_code) from None


def _failure(error: Failure | grpc.RpcError | SettingsError) -> Failure:
    if isinstance(error, Failure):
        return error
    return wrong_usage(str(error)) if isinstance(error, SettingsError) else of_rpc(error)
