"""Each reason has one code, travels in the status, and is found again by callers."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from seedbed.calls import Failed
from seedbed.errors import CallError, Reason
from seedbed.status import DETAILS_KEY, code_of, failed, reason, reason_of, status_error

DOC = Path(__file__).parents[3] / "docs" / "errors.md"


def documented_codes() -> dict[str, str]:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", DOC.read_text(encoding="utf-8"), re.M)
    return dict(rows)


def test_every_reason_is_documented_with_its_code() -> None:
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    assert documented_codes() == {one.value: names[code_of(one)] for one in Reason}


def test_reasons_stand_in_the_documents_in_the_order_of_the_source() -> None:
    assert list(documented_codes()) == [one.value for one in Reason]


def test_no_reason_is_cancelled_or_ok() -> None:
    assert not {code_of(one) for one in Reason} & {0, grpc.StatusCode.CANCELLED.value[0]}


@given(st.sampled_from(Reason), st.text(), st.none() | st.floats(0, 1e6), st.booleans())
def test_a_reason_is_found_again(
    why: Reason, message: str, retry_after_s: float | None, started: bool
) -> None:
    made = failed(CallError(why, message, retry_after_s=retry_after_s), started=started)
    assert (made.code, made.message, made.reason) == (code_of(why), message, why)
    assert (made.started, made.retry_after_s) == (started, retry_after_s)
    assert reason_of(made.details) is why


def test_details_are_a_google_rpc_status() -> None:
    made = failed(CallError(Reason.MOVING, "moving", retry_after_s=1.25))
    status = Status.FromString(made.details)
    assert (status.code, status.message) == (14, "moving")
    info, retry = ErrorInfo(), RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.domain, info.reason) == ("seedbed", "MOVING")
    assert retry.retry_delay.ToNanoseconds() == 1_250_000_000


def test_without_a_time_to_wait_there_is_no_retry_info() -> None:
    made = failed(CallError(Reason.TOO_LARGE, "too large"))
    assert len(Status.FromString(made.details).details) == 1
    assert status_error(made).trailing == ()


def test_grpcs_own_retries_are_told_how_long_to_wait() -> None:
    made = failed(CallError(Reason.OVERLOADED, "full", retry_after_s=0.0001))
    error = status_error(made)
    assert (error.code, error.message, error.details) == (8, "full", made.details)
    assert error.trailing == (("grpc-retry-pushback-ms", "1"),)


def test_an_entitys_own_status_passes_unchanged() -> None:
    trailing = (("a", "b"),)
    error = status_error(Failed(5, "none", details=b"own", trailing=trailing))
    assert (error.code, error.details, error.trailing) == (5, b"own", trailing)


def test_a_reason_without_details_gets_them() -> None:
    error = status_error(Failed(14, "moving", Reason.MOVING))
    assert reason_of(error.details) is Reason.MOVING


def details_with(info: ErrorInfo) -> bytes:
    status = Status(code=14)
    status.details.add().Pack(info)
    return status.SerializeToString()


MALFORMED = Status(
    details=[AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")]
).SerializeToString()
OTHERS = details_with(ErrorInfo(domain="shop", reason="MOVING"))
NEWER = details_with(ErrorInfo(domain="seedbed", reason="FROM_A_NEWER_RELEASE"))


@pytest.mark.parametrize("details", [b"", b"\xff", MALFORMED, OTHERS, NEWER])
def test_what_is_not_ours_has_no_reason(details: bytes) -> None:
    assert reason_of(details) is None


def aio_error(details: bytes) -> grpc.RpcError:
    trailing = grpc.aio.Metadata(("x", "y"), (DETAILS_KEY, details))
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailing)


def without_answer() -> grpc.RpcError:
    """The error of a call that ended before any metadata came."""
    error = grpc.RpcError()
    setattr(error, "trailing_metadata", lambda: None)  # noqa: B010 - the stub knows no None
    return error


def test_a_reason_of_a_newer_release_is_passed_to_callers() -> None:
    assert reason(aio_error(NEWER)) == "FROM_A_NEWER_RELEASE"


@pytest.mark.parametrize(
    "error",
    [aio_error(OTHERS), aio_error(b"\xff"), without_answer(), grpc.RpcError()],
    ids=["another domain", "garbage", "no metadata", "bare"],
)
def test_any_other_error_has_no_reason(error: grpc.RpcError) -> None:
    assert reason(error) == ""
