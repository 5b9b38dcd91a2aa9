"""The lease as a worker counts it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seedbed.ids import Incarnation
from seedbed_worker.core.lease import Lease

TTL, MARGIN = 5_000, 500


def lease() -> Lease:
    return Lease(Incarnation("a"), TTL, MARGIN)


def renewed_at(sent_ns: int) -> Lease:
    it = lease()
    it.sent(1, sent_ns)
    assert it.renewed(1, TTL, sent_ns + 1)
    return it


def test_nothing_is_valid_before_the_first_renewal() -> None:
    it = lease()
    it.sent(1, 0)
    assert not it.valid(0)
    assert not it.lapsed(10 * TTL)
    assert not it.attached


def test_validity_counts_from_when_the_heartbeat_was_sent_less_the_margin() -> None:
    it = lease()
    it.sent(1, 100)
    assert it.renewed(1, TTL, 2_000)
    assert it.valid_until_ns == 100 + TTL - MARGIN
    assert it.valid(100 + TTL - MARGIN - 1)
    assert not it.valid(100 + TTL - MARGIN)


def test_the_seeds_ttl_counts() -> None:
    it = lease()
    it.sent(1, 0)
    assert it.renewed(1, 2_000, 10)
    assert it.valid_until_ns == 2_000 - MARGIN
    assert it.ttl_ns == 2_000


def test_an_ack_of_an_unknown_heartbeat_renews_nothing() -> None:
    it = renewed_at(0)
    assert not it.renewed(7, TTL, 10)
    assert it.valid_until_ns == TTL - MARGIN


def test_one_ack_renews_once() -> None:
    it = lease()
    it.sent(1, 0)
    assert it.renewed(1, TTL, 1)
    assert not it.renewed(1, TTL, 2)


def test_acks_out_of_order_never_shorten_validity() -> None:
    it = lease()
    it.sent(1, 0)
    it.sent(2, 1_000)
    assert it.renewed(2, TTL, 1_500)
    assert not it.renewed(1, TTL, 1_600)
    assert it.valid_until_ns == 1_000 + TTL - MARGIN


def test_a_late_renewal_does_not_revive_a_lapsed_lease() -> None:
    it = renewed_at(0)
    it.sent(2, 4_000)
    assert not it.renewed(2, TTL, TTL)
    assert it.lapsed(TTL)
    assert not it.valid(TTL)


def test_a_first_renewal_that_comes_too_late_leaves_the_next_one_its_chance() -> None:
    it = lease()
    it.sent(1, 0)
    it.sent(2, 4_000)
    assert not it.renewed(1, TTL, TTL)
    assert it.renewed(2, TTL, TTL + 1)
    assert it.valid(TTL + 1)


def test_fenced_is_for_ever() -> None:
    it = renewed_at(0)
    it.sent(2, 100)
    it.fence()
    assert it.fenced
    assert not it.valid(101)
    assert not it.renewed(2, TTL, 101)
    assert it.lapsed(101)


def test_a_lost_stream_detaches_until_a_renewal_on_the_next() -> None:
    it = renewed_at(0)
    assert it.attached
    it.sent(2, 10)
    it.detached()
    assert not it.attached
    assert not it.renewed(2, TTL, 20), "it was sent on the stream that is gone"
    assert it.valid(20)
    it.sent(3, 30)
    assert it.renewed(3, TTL, 40)
    assert it.attached


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 6_000), st.booleans()), max_size=30)
)
def test_validity_never_exceeds_a_ttl_after_the_newest_renewed_send_and_ends_once(
    beats: list[tuple[int, int, bool]],
) -> None:
    it = lease()
    now_ns = newest = 0
    over = False
    for seq, (pause_ns, delay_ns, answered) in enumerate(beats, 1):
        now_ns += pause_ns
        it.sent(seq, now_ns)
        sent_ns = now_ns
        now_ns += delay_ns
        over = over or it.lapsed(now_ns)
        if answered and it.renewed(seq, TTL, now_ns):
            newest = sent_ns
        assert it.valid_until_ns <= newest + TTL - MARGIN
        assert not (over and it.valid(now_ns))
