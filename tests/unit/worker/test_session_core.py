"""The worker's membership, decided without I/O: which stream counts, when it ends, who is next."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.lease_state import LeaseState
from seedbed.routing import Owner, ShardTable
from seedbed_worker.core import session_events as ev
from seedbed_worker.core import session_messages as msg
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.core.seeds import SeedBook
from seedbed_worker.core.session import Phase, SessionCore

MS = 1_000_000
TTL = 4000 * MS
MARGIN = 400 * MS
START = 1_000_000 * MS

News = TypeVar("News")


@dataclass
class Worker:
    """A session core with its clock, and what it has said."""

    core: SessionCore
    now: int = START
    opened: list[ev.Open] = field(default_factory=list[ev.Open])
    open: dict[int, ev.Open] = field(default_factory=dict[int, ev.Open])
    sent: list[ev.Send] = field(default_factory=list[ev.Send])
    told: list[ev.Command] = field(default_factory=list[ev.Command])

    def take(self, commands: list[ev.Command]) -> None:
        for command in commands:
            match command:
                case ev.Open():
                    self.opened.append(command)
                    self.open[command.stream] = command
                case ev.Close(stream):
                    self.open.pop(stream, None)
                case ev.Send():
                    assert command.stream in self.open, "sent on a stream that is closed"
                    self.sent.append(command)
                case _:
                    self.told.append(command)

    def event(self, event: ev.Event) -> None:
        self.take(self.core.handle(event, self.now))
        self.take(self.core.tick(self.now))

    def says(self, stream: int, message: msg.FromSeed) -> None:
        self.event(ev.Said(stream, message))

    def ends(self, stream: int, why: str = "gone") -> None:
        self.open.pop(stream, None)
        self.event(ev.Ended(stream, why))

    def until(self, time: int) -> None:
        """Let time pass; every timer fires when it is due."""
        for _ in range(10_000):
            wake = self.core.wake_at_ns()
            if wake is None or wake > time:
                break
            self.now = max(self.now, wake)
            self.take(self.core.tick(self.now))
        else:
            raise AssertionError("a hot loop of timers")
        self.now = time

    def after(self, ns: int) -> None:
        self.until(self.now + ns)

    @property
    def lease(self) -> Lease:
        assert self.core.lease is not None
        return self.core.lease

    @property
    def last(self) -> ev.Open:
        return self.opened[-1]

    @property
    def beat(self) -> tuple[int, int]:
        """Stream and number of the newest heartbeat."""
        beats = [(s.stream, s.message.seq) for s in self.sent if isinstance(s.message, msg.Beat)]
        return beats[-1]

    def ack(self, state: LeaseState = LeaseState.RENEWED) -> None:
        stream, seq = self.beat
        self.says(stream, msg.Acked(seq, state, TTL))

    def heard(self, kind: type[News]) -> list[News]:
        return [news for news in self.told if isinstance(news, kind)]


def worker(*seeds: str, chance: Callable[[], float] = lambda: 0.0, binds: bool = False) -> Worker:
    ids = map(str, itertools.count(1))
    core = SessionCore(
        seeds=SeedBook(seeds or ("a:1", "b:1", "c:1"), chance),
        region=Region(),
        chance=chance,
        new_id=lambda: next(ids),
        binds=binds,
    )
    made = Worker(core)
    made.take(core.start(START))
    return made


def welcome(secret: bytes = b"s1", lease_id: int = 7) -> msg.Welcome:
    return msg.Welcome(lease_id, secret, TTL)


def member(*seeds: str, chance: Callable[[], float] = lambda: 0.0) -> Worker:
    """A worker that is up at its first seed."""
    made = worker(*seeds, chance=chance)
    made.says(made.last.stream, welcome())
    made.says(made.last.stream, msg.Routes((), snapshot=True))
    made.ack()
    assert made.core.up
    return made


def table(incarnation: str, generation: int) -> ShardTable:
    owner = Owner(NodeId("w"), Incarnation(incarnation), "127.0.0.1", 1)
    return ShardTable("t", 0, 1, Generation(generation), (owner,), (1,), (Epoch(generation),))


# Joining.


def test_a_worker_is_up_after_welcome_tables_and_the_first_renewal() -> None:
    w = worker()
    w.says(1, welcome())
    assert w.beat == (1, 1), "a heartbeat follows Welcome at once"
    w.says(1, msg.Routes((), snapshot=True))
    assert not w.core.up
    w.ack()
    assert w.core.up
    assert w.heard(ev.TellUp) == [ev.TellUp(Incarnation("1"), "a:1")]


def test_a_worker_with_a_journal_beats_only_once_it_is_bound() -> None:
    w = worker(binds=True)
    w.says(1, msg.Welcome(7, b"s1", TTL, cluster_uid="u", shard_counts={"t": 8}))
    assert w.heard(ev.TellWelcomed) == [ev.TellWelcomed(Incarnation("1"), "u", {"t": 8})]
    w.says(1, msg.Routes((), snapshot=True))
    w.after(TTL // 2)
    assert not w.sent
    w.event(ev.Bound(Incarnation("another")))
    assert not w.sent
    w.event(ev.Bound(Incarnation("1")))
    w.ack()
    assert w.core.up


def test_one_that_is_not_bound_in_time_comes_again_and_needs_to_be_bound_again() -> None:
    w = worker(binds=True)
    w.says(1, msg.Welcome(7, b"s1", TTL, cluster_uid="u"))
    w.after(TTL)
    assert [news.why for news in w.heard(ev.TellFenced)] == ["not renewed in time"]
    w.event(ev.Bound(Incarnation("1")))
    w.event(ev.Dropped(Incarnation("1")))
    w.after(TTL)
    again = w.last
    assert again.hello.replace is not None
    w.says(again.stream, msg.Welcome(8, b"s2", TTL, cluster_uid="u"))
    assert not w.sent
    w.event(ev.Bound(again.hello.incarnation))
    assert w.beat[0] == again.stream


def test_a_resumed_lease_needs_no_binding() -> None:
    w = worker(binds=True)
    w.says(1, msg.Welcome(7, b"s1", TTL, cluster_uid="u"))
    w.event(ev.Bound(Incarnation("1")))
    w.says(1, msg.Routes((), snapshot=True))
    w.ack()
    w.ends(1)
    w.after(100 * MS)
    w.says(w.last.stream, msg.Welcome(7, b"s1", TTL, cluster_uid="u"))
    assert w.beat[0] == w.last.stream
    assert len(w.heard(ev.TellWelcomed)) == 1


def test_a_seed_that_names_no_cluster_uid_is_too_old_for_a_journal() -> None:
    w = worker(binds=True)
    w.says(1, welcome())
    w.after(100 * MS)
    assert not w.sent
    assert "upgrade the seeds" in w.heard(ev.TellSearching)[0].why
    assert w.last.address != "a:1"


def test_a_seed_says_when_this_incarnation_may_be_given_shards() -> None:
    w = member()
    assert not w.core.may_be_given
    w.says(1, msg.RecordUp())
    assert w.core.may_be_given
    assert len(w.heard(ev.TellMayBeGiven)) == 1
    w.ends(1)
    w.after(100 * MS)
    w.says(w.last.stream, welcome())
    assert w.core.may_be_given, "the record is still the same"
    w.says(w.last.stream, msg.Acked(2, LeaseState.LOST, TTL))
    w.event(ev.Dropped(Incarnation("1")))
    w.after(1000 * MS)
    assert not w.core.may_be_given, "another incarnation has another record"


def test_without_the_tables_a_renewed_worker_is_not_up() -> None:
    w = worker()
    w.says(1, welcome())
    w.ack()
    assert not w.core.up
    w.says(1, msg.Routes((), snapshot=True))
    w.after(TTL // 4)
    w.ack()
    assert w.core.up


def test_joining_goes_through_the_seeds_for_ever_and_is_a_new_incarnation_each_time() -> None:
    w = worker(chance=lambda: 0.99)
    for _ in range(7):
        w.ends(w.last.stream)
        w.after(1000 * MS)
    assert {o.address for o in w.opened} == {"a:1", "b:1", "c:1"}
    assert len({o.hello.incarnation for o in w.opened}) == len(w.opened) == 8


def test_a_seed_that_does_not_answer_hello_is_left() -> None:
    w = worker()
    w.after(3000 * MS)
    assert w.last.address == "b:1"
    assert list(w.open) == [2], "the silent one is closed"


def test_name_taken_is_told_and_tried_again_slowly() -> None:
    w = worker()
    w.says(1, msg.Refused("NAME_TAKEN", "another w answers"))
    assert w.heard(ev.TellRefused) == [ev.TellRefused("a:1", "NAME_TAKEN", "another w answers")]
    w.after(3000 * MS)
    assert len(w.opened) == 1
    w.after(1000 * MS)
    assert len(w.opened) == 2


def test_a_refusal_about_the_seed_itself_sends_the_worker_to_the_next() -> None:
    w = worker()
    w.says(1, msg.Refused("SEED_NOT_READY", "no etcd"))
    w.after(200 * MS)
    assert w.last.address == "b:1"
    assert not w.heard(ev.TellRefused)


# The lease.


def test_validity_counts_from_the_sending_of_the_heartbeat() -> None:
    w = worker()
    w.says(1, welcome())
    sent = w.now
    w.now += 500 * MS
    w.says(1, msg.Routes((), snapshot=True))
    w.ack()
    assert w.lease.valid_until_ns == sent + TTL - MARGIN


def test_heartbeats_go_out_four_times_in_a_ttl() -> None:
    w = member()
    for n in range(2, 10):
        w.after(TTL // 4)
        assert w.beat == (1, n)
        w.ack()
    assert w.core.up


def test_tables_are_observed_before_the_ack_that_follows_them_counts() -> None:
    w = worker()
    w.says(1, welcome())
    w.says(1, msg.Routes((table("other", 5),), snapshot=True))
    assert w.core.region.generation("t", 0) == 5
    assert w.lease.valid_until_ns == 0
    w.ack()
    assert w.core.up


def test_a_worker_whose_acks_stop_fences_itself_though_its_stream_is_open() -> None:
    w = member("a:1")
    until = w.lease.valid_until_ns
    w.until(until - 1)
    assert w.lease.valid(w.now)
    w.until(until)
    assert w.lease.fenced
    assert w.core.region.incarnation is None
    assert w.heard(ev.TellFenced) == [ev.TellFenced(Incarnation("1"), "not renewed in time")]
    assert not w.open


def test_a_late_renewal_revives_nothing() -> None:
    w = member("a:1")
    w.after(TTL // 4)
    stream, seq = w.beat
    w.now = w.lease.valid_until_ns + 1  # the process stood still; the ack waited in its buffers
    w.take(w.core.handle(ev.Said(stream, msg.Acked(seq, LeaseState.RENEWED, TTL)), w.now))
    assert w.lease.fenced
    assert not w.core.up
    assert w.heard(ev.TellFenced)


@pytest.mark.parametrize("state", list(LeaseState))
def test_an_ack_of_a_stream_that_was_left_does_not_count(state: LeaseState) -> None:
    w = member()
    w.after(TTL // 4)
    left = w.beat
    w.says(1, msg.GoElsewhere())
    w.says(w.last.stream, welcome())
    until = w.lease.valid_until_ns
    assert not w.lease.attached
    w.says(left[0], msg.Acked(left[1], state, TTL))
    assert w.lease.valid_until_ns == until
    assert not w.lease.attached
    assert not w.lease.fenced
    assert set(w.open) == {2}


def test_lost_fences_at_once() -> None:
    w = member()
    w.after(TTL // 4)
    w.ack(LeaseState.LOST)
    assert w.lease.fenced
    assert w.core.phase is Phase.FENCED


def test_it_rejoins_only_after_the_loop_has_dropped_everything_and_names_its_predecessor() -> None:
    w = member()
    w.after(TTL // 4)
    w.ack(LeaseState.LOST)
    opened = len(w.opened)
    w.after(10 * TTL)
    assert len(w.opened) == opened
    w.event(ev.Dropped(Incarnation("1")))
    w.after(100 * MS)
    hello = w.last.hello
    assert len(w.opened) == opened + 1
    assert hello.resume is None
    assert hello.replace == msg.Hold(Incarnation("1"), 7, b"s1")
    assert hello.incarnation != "1"
    w.says(w.last.stream, welcome(b"s2", 8))
    w.says(w.last.stream, msg.Routes((), snapshot=True))
    w.ack()
    assert w.lease.incarnation == hello.incarnation
    assert w.lease.valid(w.now)


# Resuming.


def test_a_lost_stream_is_resumed_at_another_seed_with_the_same_lease() -> None:
    w = member()
    w.ends(1)
    w.after(TTL // 32)
    assert w.last.address == "b:1"
    assert w.last.hello.resume == msg.Hold(Incarnation("1"), 7, b"s1")
    assert w.last.hello.incarnation == "1"
    assert w.last.hello.stream_id not in ("", w.opened[0].hello.stream_id)
    w.says(w.last.stream, welcome())
    w.ack()
    assert w.core.up
    assert not w.heard(ev.TellFenced)
    assert len(w.heard(ev.TellUp)) == 1


def test_without_a_stream_the_lease_is_not_attached_until_a_renewal_on_a_new_one() -> None:
    w = member()
    assert w.lease.attached
    w.ends(1)
    assert not w.lease.attached
    w.after(TTL // 32)
    w.says(w.last.stream, welcome())
    assert not w.lease.attached
    w.ack()
    assert w.lease.attached
    assert ev.TellTables() in w.told[-1:]


def test_silence_counts_as_a_loss_but_the_old_stream_stays_until_another_seed_has_answered() -> (
    None
):
    w = member()
    w.after(TTL // 4)
    silent = w.now
    w.until(silent + TTL // 4 - 1)
    assert len(w.opened) == 1
    w.until(silent + TTL // 4 + TTL // 32)
    assert w.last.address == "b:1"
    assert set(w.open) == {1, 2}
    w.says(2, welcome())
    assert set(w.open) == {2}
    assert w.beat[0] == 2


def test_a_silent_seed_alone_is_dialled_anew() -> None:
    w = member("a:1")
    w.after(TTL // 2 + TTL // 32)
    assert [o.address for o in w.opened] == ["a:1", "a:1"]


def test_inside_one_ttl_every_other_seed_is_tried() -> None:
    w = member()
    w.after(TTL // 4)
    w.until(w.lease.valid_until_ns - 1)
    assert {o.address for o in w.opened} == {"a:1", "b:1", "c:1"}


def test_a_resume_that_finds_the_lease_gone_fences() -> None:
    w = member()
    w.ends(1)
    w.after(TTL // 32)
    w.says(w.last.stream, msg.Refused("FENCED", "no such lease"))
    assert w.lease.fenced
    assert w.heard(ev.TellFenced)


def test_a_seed_that_goes_away_is_left_before_it_has_gone() -> None:
    w = member()
    w.says(1, msg.GoElsewhere())
    assert w.last.address == "b:1"
    w.ends(2)
    w.after(TTL // 8)
    assert w.last.address == "c:1"
    assert 1 in w.open, "still the current one"
    w.says(3, welcome())
    assert set(w.open) == {3}


def test_a_seed_that_goes_away_alone_is_dialled_again_when_its_stream_has_ended() -> None:
    w = member("a:1")
    w.says(1, msg.GoElsewhere())
    w.after(TTL // 8)
    assert len(w.opened) == 1
    w.ends(1)
    w.after(TTL // 8)
    assert w.last.address == "a:1"
    assert w.last.hello.resume is not None


def test_on_unknown_each_other_seed_is_tried_once_then_it_stays_until_the_next_ttl() -> None:
    w = member(chance=lambda: 0.5)
    first = w.opened[0].address
    w.after(TTL // 4)
    asked = w.now
    w.ack(LeaseState.UNKNOWN)
    assert len(w.opened) == 1
    w.until(asked + TTL // 8)
    assert len(w.opened) == 2, "begun within TTL/8"
    w.says(w.last.stream, msg.Refused("SEED_NOT_READY", "no etcd"))
    w.until(asked + TTL // 4)
    w.ack()  # the old stream still renews
    w.ack(LeaseState.UNKNOWN)
    assert first not in [o.address for o in w.opened[1:]]
    assert w.core.up


def test_on_unknown_of_all_it_stays_with_its_seed_and_asks_again_after_a_ttl() -> None:
    w = member(chance=lambda: 0.5)
    end = w.lease.valid_until_ns
    answered = w.beat[1]
    for at in range(w.now, end, 10 * MS):
        w.until(at)
        if w.beat[1] > answered:
            answered = w.beat[1]
            w.ack(LeaseState.UNKNOWN)
        for stream, opened in list(w.open.items()):
            if stream != 1 and opened.address != "c:1":  # which never answers
                w.says(stream, msg.Refused("SEED_NOT_READY", "no etcd"))
    tried = [o.address for o in w.opened[1:]]
    assert len(tried) == len(set(tried)) == 2
    assert 1 in w.open


def test_a_candidate_that_answers_after_unknown_takes_over() -> None:
    w = member()
    w.after(TTL // 4)
    w.ack(LeaseState.UNKNOWN)
    w.after(1)
    assert set(w.open) == {1, 2}
    w.says(2, welcome())
    assert set(w.open) == {2}
    w.ack()
    assert w.lease.valid_until_ns == w.now + TTL - MARGIN


def test_seeds_that_were_told_of_are_tried_first() -> None:
    w = worker("dns:///seeds:1")
    w.says(1, msg.Welcome(7, b"s1", TTL, ("10.0.0.1:1", "10.0.0.2:1")))
    w.says(1, msg.Routes((), snapshot=True))
    w.ack()
    w.ends(1)
    w.after(TTL // 32)
    assert w.last.address == "10.0.0.1:1"
    w.ends(2)
    w.after(TTL // 8)
    assert w.last.address == "10.0.0.2:1"
    w.ends(3)
    w.after(TTL // 8)
    assert w.last.address == "dns:///seeds:1"


# A stalled loop.


def test_a_stalled_loop_is_not_renewed_and_so_loses_its_shards() -> None:
    w = member()
    until = w.lease.valid_until_ns
    w.event(ev.StallChanged(stalled=True))
    for at in range(w.now, until + 1, TTL // 16):  # the thread looks at the lag ever so often
        w.until(at)
        w.take(w.core.tick(at))
    w.until(until)
    assert w.beat == (1, 1)
    assert w.lease.fenced


def test_a_loop_that_runs_again_in_time_keeps_its_lease() -> None:
    w = member()
    w.event(ev.StallChanged(stalled=True))
    w.after(TTL // 2)
    w.event(ev.StallChanged(stalled=False))
    assert w.beat == (1, 2)
    w.ack()
    assert w.core.up


# Leaving.


def test_the_order_of_leaving_is_draining_fence_goodbye_farewell() -> None:
    w = member()
    w.event(ev.DrainOrdered())
    assert not w.core.region.draining
    assert w.lease.valid(w.now), "running turns still answer"
    assert ev.Send(1, msg.Draining()) in w.sent
    w.after(TTL // 4)
    w.ack()
    w.event(ev.LeaveOrdered(w.now + 1000 * MS))
    assert w.lease.fenced
    assert w.core.region.incarnation is None
    assert w.sent[-1].message == msg.Goodbye()
    assert w.open
    w.says(1, msg.Farewell())
    assert w.heard(ev.TellLeft) == [ev.TellLeft(farewell=True)]
    assert not w.open


def test_a_farewell_that_does_not_come_is_not_waited_for_longer() -> None:
    w = member()
    w.event(ev.LeaveOrdered(w.now + 1000 * MS))
    w.after(999 * MS)
    assert not w.heard(ev.TellLeft)
    w.after(1 * MS)
    assert w.heard(ev.TellLeft) == [ev.TellLeft(farewell=False)]
    assert not w.opened[1:], "no new stream, no rejoin"


def test_goodbye_is_said_elsewhere_if_the_seed_has_gone() -> None:
    w = member()
    w.event(ev.LeaveOrdered(w.now + 1000 * MS))
    w.ends(1)
    w.after(TTL // 8)
    w.says(w.last.stream, welcome())
    assert w.sent[-1] == ev.Send(2, msg.Goodbye())
    w.says(2, msg.Farewell())
    assert w.heard(ev.TellLeft) == [ev.TellLeft(farewell=True)]


def test_a_drain_goes_on_at_another_seed() -> None:
    w = member()
    w.event(ev.DrainOrdered())
    w.says(1, msg.GoElsewhere())
    w.says(w.last.stream, welcome())
    assert ev.Send(2, msg.Draining()) in w.sent


def test_a_worker_that_is_fenced_while_it_drains_does_not_rejoin() -> None:
    w = member()
    w.event(ev.DrainOrdered())
    w.after(TTL // 4)
    w.ack(LeaseState.LOST)
    w.event(ev.Dropped(Incarnation("1")))
    w.after(10 * TTL)
    assert not w.open
    w.event(ev.LeaveOrdered(w.now + 1000 * MS))
    assert w.heard(ev.TellLeft) == [ev.TellLeft(farewell=False)]


def test_a_worker_without_a_seed_leaves_at_once() -> None:
    w = worker()
    w.event(ev.LeaveOrdered(w.now + 1000 * MS))
    assert w.heard(ev.TellLeft)


def test_a_lease_that_is_gone_when_goodbye_is_said_is_as_good_as_left() -> None:
    w = member()
    w.after(TTL // 4)
    w.event(ev.LeaveOrdered(w.now + 1000 * MS))
    w.ack(LeaseState.LOST)
    assert w.heard(ev.TellLeft) == [ev.TellLeft(farewell=False)]


def test_goodbye_elsewhere_finds_the_lease_gone() -> None:
    w = member()
    w.event(ev.LeaveOrdered(w.now + 1000 * MS))
    w.ends(1)
    w.after(TTL // 8)
    w.says(w.last.stream, msg.Refused("FENCED", ""))
    assert w.heard(ev.TellLeft) == [ev.TellLeft(farewell=False)]


def test_nothing_happens_after_the_end() -> None:
    w = member()
    w.event(ev.LeaveOrdered(w.now))
    told = len(w.told)
    w.ends(1)
    w.event(ev.DrainOrdered())
    w.after(10 * TTL)
    assert (len(w.told), len(w.opened)) == (told, 1)


def test_an_ack_that_comes_after_goodbye_renews_nothing() -> None:
    w = member()
    w.after(TTL // 4)
    w.event(ev.LeaveOrdered(w.now + 1000 * MS))
    w.ack()
    assert not w.lease.valid(w.now)
    assert w.core.phase is Phase.LEAVING


# What a seed should not say.


@pytest.mark.parametrize(
    "message",
    [msg.Acked(1, LeaseState.RENEWED, TTL), msg.Routes((), snapshot=True), msg.Farewell()],
)
def test_a_seed_must_say_welcome_first(message: msg.FromSeed) -> None:
    w = worker()
    w.says(1, message)
    assert 1 not in w.open
    w.after(200 * MS)
    assert w.last.address == "b:1"


def test_a_candidate_that_goes_away_is_passed_over() -> None:
    w = worker()
    w.says(1, msg.GoElsewhere())
    assert 1 not in w.open
    w.after(200 * MS)
    assert w.last.address == "b:1"


def test_a_candidate_that_says_lost_is_believed() -> None:
    w = member()
    w.ends(1)
    w.after(TTL // 32)
    w.says(2, msg.Acked(1, LeaseState.LOST, 0))
    assert w.lease.fenced


@pytest.mark.parametrize("message", [welcome(), msg.Refused("SEED_NOT_READY", "no etcd")])
def test_a_stream_whose_seed_begins_anew_is_lost(message: msg.FromSeed) -> None:
    w = member()
    w.says(1, message)
    assert 1 not in w.open
    w.after(TTL // 32)
    assert w.last.hello.resume is not None


def test_a_farewell_that_nobody_asked_for_means_nothing() -> None:
    w = member()
    w.says(1, msg.Farewell())
    assert w.core.up


def test_an_ack_for_a_heartbeat_that_was_never_sent_renews_nothing() -> None:
    w = member()
    until = w.lease.valid_until_ns
    w.now += 100 * MS
    w.says(1, msg.Acked(99, LeaseState.RENEWED, TTL))
    assert w.lease.valid_until_ns == until


# Small things.


def test_a_higher_epoch_is_reported_to_the_seed() -> None:
    w = member()
    w.event(ev.EpochMet("t", 3, Epoch(9)))
    assert w.sent[-1] == ev.Send(1, msg.EpochSeen("t", 3, Epoch(9)))


def test_without_a_seed_a_higher_epoch_is_dropped() -> None:
    w = worker()
    w.event(ev.EpochMet("t", 3, Epoch(9)))
    assert not w.sent


def test_new_tables_are_told_and_known_ones_are_not() -> None:
    w = member()
    w.says(1, msg.Routes((table("other", 5),)))
    w.says(1, msg.Routes((table("other", 5),)))
    assert w.heard(ev.TellTables) == [ev.TellTables()]


def test_the_seeds_clock_is_compared_with_ours() -> None:
    w = member()
    stream, seq = w.beat
    w.says(stream, msg.Acked(seq, LeaseState.RENEWED, TTL, skew_ms=-40_000))
    assert w.core.skew_ms == -40_000


def test_a_renewal_while_a_search_has_not_begun_ends_it() -> None:
    w = member(chance=lambda: 0.99)
    w.after(TTL // 2)
    assert ev.TellLost(w.opened[0].address, "late with an ack") in w.told
    w.ack()
    w.until(w.now + TTL // 4 - 1)
    assert len(w.opened) == 1


# Whatever happens.

TIMES = ["wait", "leap", "freeze", "stall", "run", "drop"]
SAID = ["ack", "old_ack", "unknown", "lost", "welcome", "refuse", "fenced", "go", "routes", "end"]
ACTIONS = st.lists(st.sampled_from([*TIMES, *SAID]), max_size=60)


def _act(w: Worker, action: str, size: int) -> None:
    newest = max(w.open, default=0)
    match action:
        case "wait":
            w.after(size * TTL // 64)
        case "leap":
            w.after(size * TTL // 8)
        case "freeze":  # the process stands still: time passes, no timer fires
            w.now += size * TTL // 8
        case "ack" | "unknown" | "lost" if any(isinstance(s.message, msg.Beat) for s in w.sent):
            states = {"ack": "RENEWED", "unknown": "UNKNOWN", "lost": "LOST"}
            w.ack(LeaseState(states[action]))
        case "old_ack":
            w.says(1, msg.Acked(size, LeaseState.RENEWED, TTL))
        case "end":
            w.ends(min(w.open, default=0))
        case "welcome":
            w.says(newest, welcome())
        case "routes":
            w.says(newest, msg.Routes((), snapshot=True))
        case "refuse":
            w.says(newest, msg.Refused("SEED_NOT_READY", ""))
        case "fenced":
            w.says(newest, msg.Refused("FENCED", ""))
        case "go":
            w.says(newest, msg.GoElsewhere())
        case "drop":
            for news in w.heard(ev.TellFenced)[-1:]:
                w.event(ev.Dropped(news.incarnation))
        case "stall" | "run":
            w.event(ev.StallChanged(action == "stall"))
        case _:
            pass


@settings(max_examples=300, deadline=None)
@given(ACTIONS, st.randoms(use_true_random=False))
def test_whatever_happens_a_fenced_incarnation_stays_so_and_no_lease_outlives_its_heartbeat(
    actions: list[str], chance: Random
) -> None:
    w = worker(chance=chance.random)
    fenced: set[str] = set()
    leases: dict[str, Lease] = {}
    for action in actions:
        beats = {s.message.seq for s in w.sent if isinstance(s.message, msg.Beat)}
        _act(w, action, chance.randint(1, 8))
        if (lease := w.core.lease) is not None:
            leases[lease.incarnation] = lease
            assert lease.valid_until_ns <= w.now + TTL - MARGIN
            assert not (lease.valid_until_ns and not beats)
        fenced |= {news.incarnation for news in w.heard(ev.TellFenced)}
        assert all(leases[incarnation].fenced for incarnation in fenced)
        assert w.core.region.incarnation not in fenced
        assert len(w.open) <= 2, "one stream that renews, one that is tried"
        valid = [lease for lease in leases.values() if lease.valid(w.now)]
        assert len(valid) <= 1
        if w.core.phase in (Phase.JOINING, Phase.HOLDING):
            assert w.core.wake_at_ns() is not None or w.open, "it always goes on"
