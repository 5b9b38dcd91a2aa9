"""A call's metadata is sorted, and ids carry their time."""

from __future__ import annotations

from random import Random
from uuid import UUID

from seedbed.metadata import CallMetadata, read_metadata
from seedbed.request_ids import DerivedIds, RequestIds, minted_at_ms
from seedbed.retry import CAP_S, backoff_s
from tests.unit.sdk.fake_network import ManualClock


def test_the_users_own_metadata_is_kept_and_the_roads_is_not() -> None:
    read = read_metadata(
        (
            ("user-agent", "grpc-python"),
            ("grpc-accept-encoding", "gzip"),
            ("te", "trailers"),
            ("traceparent", "00-aa-bb-01"),
            ("tracestate", "a=b"),
            ("idempotency-key", "once"),
            ("tenant", "acme"),
            ("blob-bin", b"\x00"),
        )
    )
    assert read == CallMetadata(
        own=(("idempotency-key", "once"), ("tenant", "acme"), ("blob-bin", b"\x00")),
        traceparent="00-aa-bb-01",
        tracestate="a=b",
        idempotency_key="once",
    )


def test_a_plain_call_has_nothing_of_its_own() -> None:
    assert read_metadata((("user-agent", "grpc-python"),)) == CallMetadata()


def test_ids_are_uuids_of_version_7_that_carry_their_time() -> None:
    clock = ManualClock()
    ids = RequestIds(clock, Random(1))
    first, second = ids.mint(), ids.mint()
    assert first != second
    assert UUID(first).version == 7
    assert UUID(first).variant == "specified in RFC 4122"
    assert minted_at_ms(first) == clock.wall_ms()


def test_a_callers_own_key_carries_no_time() -> None:
    assert minted_at_ms("order-17") is None
    assert minted_at_ms("x" * 12 + "7" + "x" * 19) is None


def test_a_derived_id_follows_from_its_parts_and_carries_its_time() -> None:
    made = DerivedIds(1_700_000_000_000, "order", "o-1").of("account", "0")
    assert made == DerivedIds(1_700_000_000_000, "order", "o-1").of("account", "0")
    assert UUID(made).version == 8, "so it is told from what an edge has minted"
    assert UUID(made).variant == "specified in RFC 4122"
    assert minted_at_ms(made) == 1_700_000_000_000


def test_other_parts_make_other_ids_wherever_their_borders_are() -> None:
    names = [("a", "bc"), ("ab", "c"), ("abc",), ("abc", ""), ("", "abc"), ("1:a", "bc")]
    names += [(odd, "é") for odd in ("\ud800", "\x00")]
    ids = [DerivedIds(0, owner, "x").of(*name) for name in names for owner in ("one", "two")]
    assert len(set(ids)) == 2 * len(names)


def test_waits_grow_up_to_a_second_and_may_be_short() -> None:
    random = Random(1)
    waits = [backoff_s(failures, random) for failures in range(1, 200)]
    assert max(waits) <= CAP_S
    assert min(waits[10:]) < 0.1
    assert backoff_s(1, random) <= 0.1
