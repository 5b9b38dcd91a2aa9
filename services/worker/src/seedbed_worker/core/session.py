"""A worker's membership: what it says to its seed, and for how long its incarnation may serve.

An incarnation joins (Hello, Welcome), holds a lease that heartbeats renew, and is fenced for ever
when the lease ends; then the process joins as a new one. A lease outlives its stream: while it is
valid the worker resumes it at another seed, by its id and secret.

    JOINING ──Welcome──> HOLDING ──LOST, FENCED, past valid_until──> FENCED ──Dropped──> JOINING
                            └──LeaveOrdered──> LEAVING ──Farewell, or too late──> LEFT

Which streams are open, and which seed is tried next, is for `SeedStreams` to know.

A worker with a journal sends no heartbeat before the journal has taken the cluster that welcomed it
(`Bound`): until then its record is not UP, and nobody gives it shards.

Two orders matter. Tables are observed in the order in which the seed sent them, so before the ack
that follows them. And an incarnation is replaced only after the loop has dropped what it served.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import assert_never

from seedbed.ids import Incarnation
from seedbed.lease_state import LeaseState
from seedbed_worker.core import session_events as ev
from seedbed_worker.core import session_messages as msg
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.core.seed_streams import SeedStreams
from seedbed_worker.core.seeds import SeedBook
from seedbed_worker.core.streams import SECOND, Stream

SLOW_NS = 5 * SECOND
"""Pause after a refusal that a repeat will not change, unless the seed names another."""

PASSING = frozenset({"SEED_NOT_READY", "STORE_FULL", "STORE_UNAVAILABLE"})
"""Refusals that say something about the seed, and nothing about this worker."""


def margin_ns(ttl_ns: int) -> int:
    """How much earlier than the store the worker takes its lease for ended."""
    return max(ttl_ns // 10, SECOND // 4)


class Phase(Enum):
    JOINING = "JOINING"
    HOLDING = "HOLDING"
    FENCED = "FENCED"
    LEAVING = "LEAVING"
    LEFT = "LEFT"


class SessionCore:
    """Events in, commands out. `chance` gives numbers in [0, 1), `new_id` unguessable ids.

    `binds`: the worker has a journal.
    """

    def __init__(
        self,
        *,
        seeds: SeedBook,
        region: Region,
        chance: Callable[[], float],
        new_id: Callable[[], str],
        binds: bool = False,
    ) -> None:
        self.region = region
        self.lease: Lease | None = None
        """Of the newest welcomed incarnation; fenced once that is over."""
        self.phase = Phase.JOINING
        self.may_be_given = False
        """A seed has said that this incarnation's record is UP, so that it may be given shards."""
        self.skew_ms = 0
        """The seeds' wall clock less ours, as the last message showed it."""
        self._chance = chance
        self._new_id = new_id
        self._binds = binds
        self._bound = not binds
        self._incarnation = Incarnation("")
        self._replace: msg.Hold | None = None
        self._expires_ns = 0
        """When the incarnation is over unless renewed: `valid_until`, or a TTL after Welcome."""
        self._up = False
        self._tables_seen = False
        self._seq = 0
        self._stalled = False
        self._draining = False
        self._leave_by_ns = 0
        self._out: list[ev.Command] = []
        self._streams = SeedStreams(seeds, chance, self._out)

    @property
    def up(self) -> bool:
        """Renewed at least once with the tables known, and not over."""
        return self._up and self.phase is Phase.HOLDING

    @property
    def tables_seen(self) -> bool:
        """The snapshot of the tables has come on some stream of this incarnation."""
        return self._tables_seen

    def start(self, now_ns: int) -> list[ev.Command]:
        """Begin to look for a seed."""
        self._streams.search(now_ns, at_ns=now_ns)
        return self.tick(now_ns)

    def handle(self, event: ev.Event, now_ns: int) -> list[ev.Command]:
        """Take an event. Follow with `tick` when no more events wait."""
        self._expire(now_ns)
        if self.phase is not Phase.LEFT:
            self._handle(event, now_ns)
        return self._commands()

    def tick(self, now_ns: int) -> list[ev.Command]:
        """Do what time alone makes due."""
        if self.phase is not Phase.LEFT:
            self._timers(now_ns)
        return self._commands()

    def wake_at_ns(self) -> int | None:
        """When `tick` is next needed, if no event comes before."""
        times: list[int] = []
        if self.phase is Phase.HOLDING:
            times.append(self._expires_ns)
        if self.phase is Phase.LEAVING:
            times.append(self._leave_by_ns)
        holding = self.phase is Phase.HOLDING
        if (stream := self._streams.current) is not None and holding and self._may_beat:
            times.append(stream.next_beat_ns)
        if (at_ns := self._streams.wake_at_ns(holding=holding)) is not None:
            times.append(at_ns)
        return min(times, default=None)

    def _commands(self) -> list[ev.Command]:
        out = list(self._out)
        self._out.clear()
        return out

    # Events.

    def _handle(self, event: ev.Event, now: int) -> None:
        match event:
            case ev.Said(stream, message):
                current, candidate = self._streams.current, self._streams.candidate
                if candidate is not None and candidate.number == stream:
                    self._candidate_said(candidate, message, now)
                elif current is not None and current.number == stream:
                    self._current_said(current, message, now)
                # Else it comes from a stream that the worker has left: it counts no more.
            case ev.Ended(stream, why):
                self._ended(stream, why, now)
            case ev.Dropped(incarnation):
                if self.phase is Phase.FENCED and incarnation == self._incarnation:
                    self._rejoin(now)
            case ev.Bound(incarnation):
                if incarnation == self._incarnation:
                    self._bound = True
            case ev.StallChanged(stalled):
                self._stalled = stalled
            case ev.EpochMet(type_, shard, epoch):
                self._streams.send(msg.EpochSeen(type_, shard, epoch))
            case ev.ReleasesChanged():
                if self.phase is Phase.HOLDING and (released := self.region.released()):
                    self._streams.send(msg.Released(released))
            case ev.DrainOrdered():
                self._draining = True
                self._streams.send(msg.Draining())
            case ev.LeaveOrdered(by_ns):
                self._leave(by_ns)
            case _:
                assert_never(event)

    def _candidate_said(self, stream: Stream, message: msg.FromSeed, now: int) -> None:
        match message:
            case msg.Welcome(cluster_uid="") if self._binds:
                why = "the seed names no cluster uid: upgrade the seeds before the workers"
                self._streams.candidate_failed(why, now)
            case msg.Welcome():
                self._welcomed(stream, message, now)
            case msg.Refused(reason, text, retry_after_ns):
                self._streams.candidate_refused(reason)
                self._refused(stream, reason, text, retry_after_ns, now)
            case msg.Acked(state=LeaseState.LOST) if stream.hello.resume is not None:
                self._over(f"{stream.address} says that the lease is lost", now)
            case msg.GoElsewhere():
                self._streams.candidate_failed("the seed is going away", now)
            case msg.Acked() | msg.Routes() | msg.Farewell() | msg.RecordUp():
                self._streams.candidate_failed("the seed did not say Welcome first", now)
            case _:
                assert_never(message)

    def _welcomed(self, stream: Stream, welcome: msg.Welcome, now: int) -> None:
        resumed = stream.hello.resume is not None
        self._streams.welcomed(stream)
        self._streams.told(welcome.seeds)
        self.skew_ms = welcome.skew_ms
        self._streams.ttl_ns = welcome.ttl_ns
        stream.next_beat_ns = now
        if resumed and self.lease is not None:
            # Also forgets what was sent before: nothing of the old stream renews any more.
            self.lease.detached()
            self._out.append(ev.TellResumed(self._incarnation, stream.address))
        else:
            self.lease = Lease(self._incarnation, welcome.ttl_ns, margin_ns(welcome.ttl_ns))
            self._streams.hold = msg.Hold(self._incarnation, welcome.lease_id, welcome.secret)
            self._expires_ns = now + welcome.ttl_ns
            self._replace = None
            self.phase = Phase.HOLDING
            if self._binds:
                uid, counts = welcome.cluster_uid, welcome.shard_counts
                self._out.append(ev.TellWelcomed(self._incarnation, uid, counts))
        if self.phase is Phase.LEAVING:
            self._streams.send(msg.Goodbye())
        elif self._draining:
            self._streams.send(msg.Draining())
        self._beat(now)

    def _refused(
        self, stream: Stream, reason: str, text: str, retry_after_ns: int, now: int
    ) -> None:
        if stream.hello.resume is not None:
            if reason == "FENCED":
                self._over(f"{stream.address} says that the lease is gone: {text}", now)
            else:
                self._streams.try_next(f"{reason}: {text}", stream.address, now)
        elif reason in PASSING:
            self._streams.try_next(f"{reason}: {text}", stream.address, now)
        else:
            self._out.append(ev.TellRefused(stream.address, reason, text))
            pause = int((retry_after_ns or SLOW_NS) * (0.75 + self._chance() / 2))
            self._streams.search(now, at_ns=now + pause)

    def _current_said(self, stream: Stream, message: msg.FromSeed, now: int) -> None:
        match message:
            case msg.Acked():
                self._acked(stream, message, now)
            case msg.Routes(tables, snapshot, seeds):
                self._streams.told(seeds)
                changed = self.region.observe(tables, now)
                self._tables_seen = self._tables_seen or snapshot
                if changed:
                    self._out.append(ev.TellTables())
            case msg.GoElsewhere():
                self._streams.goes_away(stream, now)
            case msg.Farewell():
                if self.phase is Phase.LEAVING:
                    self._left(farewell=True)
            case msg.RecordUp():
                self.may_be_given = True
                self._out.append(ev.TellMayBeGiven())
            case msg.Refused(reason, text):
                self._streams.close(stream, reason)
                self._ended(stream.number, f"{reason}: {text}", now)
            case msg.Welcome():
                self._streams.close(stream, "a second Welcome")
                self._ended(stream.number, "a second Welcome", now)
            case _:
                assert_never(message)

    def _acked(self, stream: Stream, ack: msg.Acked, now: int) -> None:
        stream.answered(ack.seq)
        self.skew_ms = ack.skew_ms
        stream.unknown = ack.state is LeaseState.UNKNOWN
        lease = self.lease
        if self.phase is not Phase.HOLDING or lease is None:
            if ack.state is LeaseState.LOST and self.phase is Phase.LEAVING:
                self._left(farewell=False)
            return
        match ack.state:
            case LeaseState.RENEWED:
                waiting = self._up and not lease.attached
                if lease.renewed(ack.seq, ack.ttl_ns, now):
                    self._renewed(stream, lease, ack, now)
                    if waiting:
                        self._out.append(ev.TellTables())
            case LeaseState.LOST:
                self._over(f"{stream.address} says that the lease is lost", now)
            case LeaseState.UNKNOWN:
                self._streams.knows_nothing(now)
            case _:
                assert_never(ack.state)

    def _renewed(self, stream: Stream, lease: Lease, ack: msg.Acked, now: int) -> None:
        self._streams.ttl_ns = ack.ttl_ns
        self._expires_ns = lease.valid_until_ns
        self._streams.renewed(now)
        if self._tables_seen and not self._up:
            self._up = True
            self._out.append(ev.TellUp(self._incarnation, stream.address))

    def _ended(self, number: int, why: str, now: int) -> None:
        current, candidate = self._streams.current, self._streams.candidate
        if candidate is not None and candidate.number == number:
            self._streams.candidate_failed(why, now)
        elif current is not None and current.number == number:
            if self.lease is not None:
                self.lease.detached()
            self._streams.current_ended(current, why, now)

    def _leave(self, by_ns: int) -> None:
        self._leave_by_ns = by_ns
        self.region.fence()
        if self.lease is not None:
            self.lease.fence()
        if self.phase is not Phase.HOLDING:
            self._left(farewell=False)
            return
        self.phase = Phase.LEAVING
        self._streams.send(msg.Goodbye())

    # Time.

    def _timers(self, now: int) -> None:
        self._expire(now)
        if self.phase is Phase.LEAVING and now >= self._leave_by_ns:
            self._left(farewell=False)
            return
        self._beat(now)
        if address := self._streams.tick(now):
            self._streams.open(address, self._hello(), now)

    def _expire(self, now: int) -> None:
        if self.phase is Phase.HOLDING and now >= self._expires_ns:
            self._over("not renewed in time", now)

    @property
    def _may_beat(self) -> bool:
        return self._bound and not self._stalled

    def _beat(self, now: int) -> None:
        stream, lease = self._streams.current, self.lease
        if stream is None or lease is None or self.phase is not Phase.HOLDING or not self._may_beat:
            return
        if now >= stream.next_beat_ns:
            self._seq += 1
            lease.sent(self._seq, now)
            stream.unanswered[self._seq] = now
            stream.next_beat_ns = now + self._streams.ttl_ns // 4
            self._streams.send(msg.Beat(self._seq, self.region.released()))

    def _hello(self) -> msg.Hello:
        if self._streams.hold is None:
            # A new one each time: an earlier Hello without an answer may yet reach the store.
            self._incarnation = Incarnation(self._new_id())
            self.region.begin(self._incarnation)
            self._tables_seen = self.may_be_given = False
            self._bound = not self._binds
        return msg.Hello(self._incarnation, self._new_id(), self._streams.hold, self._replace)

    # Ends.

    def _over(self, why: str, now: int) -> None:
        """The incarnation may not serve any more: fence it before anything else is done."""
        self.region.fence()
        if self.lease is not None:
            self.lease.fence()
        self._streams.close_all("fenced")
        self._up = False
        if self.phase is Phase.LEAVING:
            self._left(farewell=False)
            return
        self._replace, self._streams.hold = self._streams.hold, None
        self.phase = Phase.FENCED
        self._out.append(ev.TellFenced(self._incarnation, why))

    def _rejoin(self, now: int) -> None:
        if self._draining:
            return
        self.phase = Phase.JOINING
        self._streams.search(now, at_ns=now + self._streams.pace.backoff_ns(0))

    def _left(self, *, farewell: bool) -> None:
        self._streams.close_all("left")
        self.phase = Phase.LEFT
        self._out.append(ev.TellLeft(farewell))
