"""When a seed acknowledges a heartbeat, and when it gives a worker up."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seedbed.errors import ProtocolError
from seedbed.ids import Incarnation
from seedbed.lease_state import LeaseState
from seedbed_seed.core.sessions import (
    Ack,
    Command,
    GoodbyeArrived,
    HeartbeatArrived,
    Read,
    RecordFacts,
    RecordRead,
    Renew,
    RenewalAnswered,
    RoutesSent,
    Session,
    SetUp,
    Silent,
    StreamEnded,
    Ticked,
)

TTL = 16_000
ME, HERE = Incarnation("me"), "stream"
GOOD = RecordFacts(ME, HERE, silent=False)


def session() -> Session:
    it = Session(ME, HERE, TTL, 0)
    it.apply(RoutesSent(10), 0)
    return it


def renew(it: Session, seq: int, now_ns: int) -> list[Command]:
    """A heartbeat that is renewed at once."""
    it.apply(HeartbeatArrived(seq), now_ns)
    it.apply(RenewalAnswered(seq, TTL), now_ns)
    return it.apply(RecordRead(seq, GOOD, 10), now_ns)


def test_a_heartbeat_is_renewed_then_read_then_acknowledged() -> None:
    it = session()
    assert it.apply(HeartbeatArrived(1), 100) == [Renew(1)]
    assert it.apply(RenewalAnswered(1, TTL), 200) == [Read(1)]
    assert it.apply(RecordRead(1, GOOD, 10), 300) == [Ack(1, LeaseState.RENEWED, TTL), SetUp()]


def test_only_the_first_renewal_sets_up() -> None:
    it = session()
    renew(it, 1, 100)
    assert renew(it, 2, 4_000) == [Ack(2, LeaseState.RENEWED, TTL)]


def test_the_ack_waits_until_the_tables_of_the_read_were_sent() -> None:
    it = session()
    it.apply(HeartbeatArrived(1), 100)
    it.apply(RenewalAnswered(1, TTL), 200)
    assert it.apply(RecordRead(1, GOOD, 12), 300) == []
    assert it.apply(RoutesSent(11), 400) == []
    assert it.apply(RoutesSent(12), 500) == [Ack(1, LeaseState.RENEWED, TTL), SetUp()]


def test_an_ended_lease_is_lost_and_nothing_is_renewed_after_it() -> None:
    it = session()
    it.apply(HeartbeatArrived(1), 100)
    assert it.apply(RenewalAnswered(1, 0), 200) == [Ack(1, LeaseState.LOST, 0)]
    assert it.mute
    assert it.apply(HeartbeatArrived(2), 300) == []
    assert it.apply(StreamEnded(), 400) == [], "a member that is gone is not marked"


@pytest.mark.parametrize("record", [None, RecordFacts(Incarnation("next"), HERE, silent=False)])
def test_a_record_that_is_gone_or_anothers_is_lost(record: RecordFacts | None) -> None:
    it = session()
    it.apply(HeartbeatArrived(1), 100)
    it.apply(RenewalAnswered(1, TTL), 200)
    assert it.apply(RecordRead(1, record, 10), 300) == [Ack(1, LeaseState.LOST, 0)]


@pytest.mark.parametrize(
    "record", [RecordFacts(ME, "newer", silent=False), RecordFacts(ME, HERE, silent=True)]
)
def test_a_stream_that_was_left_or_a_marked_record_renews_nothing_ever(
    record: RecordFacts,
) -> None:
    it = session()
    it.apply(HeartbeatArrived(1), 100)
    it.apply(RenewalAnswered(1, TTL), 200)
    assert it.apply(RecordRead(1, record, 10), 300) == [Ack(1, LeaseState.UNKNOWN, 0)]
    assert it.mute
    assert renew(it, 2, 400) == []


def test_what_is_not_answered_within_an_eighth_of_the_ttl_is_unknown() -> None:
    it = session()
    it.apply(HeartbeatArrived(1), 100)
    assert it.wake_at_ns == 100 + TTL // 8
    assert it.apply(Ticked(), 100 + TTL // 8) == [Ack(1, LeaseState.UNKNOWN, 0)]
    assert it.apply(RenewalAnswered(1, TTL), 100 + TTL // 8) == []


def test_an_answer_that_comes_after_its_limit_is_late_even_before_the_tick() -> None:
    it = session()
    it.apply(HeartbeatArrived(1), 100)
    late_ns = 101 + TTL // 8
    assert it.apply(RenewalAnswered(1, TTL), late_ns) == [Ack(1, LeaseState.UNKNOWN, 0)]


def test_a_newer_heartbeat_supersedes_and_the_older_renewal_counts_no_more() -> None:
    it = session()
    it.apply(HeartbeatArrived(1), 100)
    assert it.apply(HeartbeatArrived(2), 200) == [Ack(1, LeaseState.UNKNOWN, 0), Renew(2)]
    assert it.apply(RenewalAnswered(1, TTL), 300) == []
    assert it.apply(RecordRead(2, GOOD, 10), 300) == [], "a read before the renewal's answer"
    assert it.apply(RenewalAnswered(2, TTL), 300) == [Read(2)]


def test_heartbeats_must_be_numbered_upwards() -> None:
    it = session()
    it.apply(HeartbeatArrived(2), 100)
    with pytest.raises(ProtocolError, match="heartbeat 2 after 2"):
        it.apply(HeartbeatArrived(2), 200)


def test_two_missed_heartbeats_are_silence_counted_from_the_last_renewed_one() -> None:
    it = session()
    renew(it, 1, 1_000)
    it.apply(HeartbeatArrived(2), 5_000)
    silent_at_ns = 5_000 + TTL // 2 + TTL // 16
    assert it.apply(Ticked(), silent_at_ns - 1) == [Ack(2, LeaseState.UNKNOWN, 0)]
    assert it.wake_at_ns == silent_at_ns
    assert it.apply(Ticked(), silent_at_ns) == [Silent(silent_at_ns - 1_000)]
    assert it.wake_at_ns is None
    assert renew(it, 3, silent_at_ns + 1) == [], "no RENEWED on this stream for ever"
    assert it.apply(StreamEnded(), silent_at_ns + 2) == [], "one mark is enough"


def test_a_heartbeat_that_comes_after_the_silence_does_not_undo_it() -> None:
    it = session()
    assert it.apply(HeartbeatArrived(1), TTL) == [Silent(TTL)]


def test_a_stream_that_ends_is_silence_and_one_that_ends_after_goodbye_is_not() -> None:
    it = session()
    renew(it, 1, 1_000)
    assert it.apply(StreamEnded(), 1_500) == [Silent(500)]
    it = session()
    it.apply(GoodbyeArrived(), 100)
    assert it.mute
    assert it.apply(StreamEnded(), 200) == []


def test_before_any_heartbeat_the_age_counts_from_the_hello() -> None:
    assert session().apply(StreamEnded(), 700) == [Silent(700)]


class Sessions(RuleBasedStateMachine):
    """A RENEWED is given only for the newest heartbeat, in order, and never after a mark."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.seq = 0
        self.sent = 0
        self.marked = False
        self.arrived: dict[int, int] = {}
        self.renewed: set[int] = set()
        self.table_revision: dict[int, int] = {}
        self.last_renewed_ns = 0
        self.it = Session(ME, HERE, TTL, 0)

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Ack(seq, LeaseState.RENEWED, _):
                    assert not self.marked
                    assert seq == self.seq
                    assert seq in self.renewed
                    assert self.table_revision[seq] <= self.sent
                    assert self.now_ns < self.arrived[seq] + TTL // 8
                    self.last_renewed_ns = self.arrived[seq]
                case Silent(age_ns):
                    assert not self.marked
                    assert age_ns == self.now_ns - self.last_renewed_ns
                    self.marked = True
                case _:
                    pass

    @rule(pause_ns=st.integers(0, TTL // 3))
    def tick(self, pause_ns: int) -> None:
        self.now_ns += pause_ns
        self.take(self.it.apply(Ticked(), self.now_ns))

    @rule()
    def heartbeat(self) -> None:
        self.seq += 1
        self.arrived[self.seq] = self.now_ns
        self.take(self.it.apply(HeartbeatArrived(self.seq), self.now_ns))

    @precondition(lambda self: self.seq > 0)
    @rule(back=st.integers(0, 2))
    def answer_renewal(self, back: int) -> None:
        seq = max(1, self.seq - back)
        self.renewed.add(seq)
        self.take(self.it.apply(RenewalAnswered(seq, TTL), self.now_ns))

    @precondition(lambda self: self.seq in self.renewed)
    @rule(ahead=st.integers(0, 2))
    def answer_read(self, ahead: int) -> None:
        self.table_revision[self.seq] = self.sent + ahead
        self.take(self.it.apply(RecordRead(self.seq, GOOD, self.sent + ahead), self.now_ns))

    @rule()
    def send_routes(self) -> None:
        self.sent += 1
        self.take(self.it.apply(RoutesSent(self.sent), self.now_ns))

    @invariant()
    def a_marked_session_is_mute(self) -> None:
        assert not self.marked or self.it.mute


Sessions.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSessions = Sessions.TestCase
