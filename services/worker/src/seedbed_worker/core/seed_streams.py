"""A worker's streams to seeds, and its search for the next seed.

At most two streams are open: the current one, which renews, and a candidate that has not answered
its Hello. The current one is kept until the candidate says Welcome, since that Hello may come to
nothing; from Welcome on only the new one counts. A search goes through the seeds in rounds, one
candidate at a time. It begins when the current stream ends, is late with an ack, says UNKNOWN or
GoElsewhere; after UNKNOWN alone it is one round of the other seeds, then rest until the next TTL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from seedbed_worker.core import session_events as ev
from seedbed_worker.core import session_messages as msg
from seedbed_worker.core.seeds import SeedBook
from seedbed_worker.core.streams import SECOND, Pace, Search, Stream

FIRST_TTL_NS = 5 * SECOND
"""The TTL before any seed has told it: only paces the first attempts."""


class SeedStreams:
    """What to do with the streams, and to tell of them, is added to `out`, in order."""

    def __init__(self, seeds: SeedBook, chance: Callable[[], float], out: list[ev.Command]) -> None:
        self.current: Stream | None = None
        self.candidate: Stream | None = None
        self.ttl_ns = FIRST_TTL_NS
        self.hold: msg.Hold | None = None
        """What the next Hello resumes."""
        self._seeds = seeds
        self._chance = chance
        self._out = out
        self._search: Search | None = None
        self._rest_until_ns = 0
        self._opened = 0

    @property
    def pace(self) -> Pace:
        """How long to wait for what."""
        return Pace(self._chance, self.ttl_ns, resuming=self.hold is not None)

    def wake_at_ns(self, *, holding: bool) -> int | None:
        """When `tick` is next needed; `holding`: acks are awaited."""
        times: list[int] = []
        if self.candidate is not None:
            times.append(self.candidate.answer_by_ns)
        elif self._search is not None:
            times.append(self._search.at_ns)
        if holding and self.current is not None and self._search is None:
            late_at_ns = self.current.late_at_ns(self.ttl_ns)
            if late_at_ns is not None:
                times.append(late_at_ns)
        return min(times, default=None)

    def tick(self, now: int) -> str:
        """Do what time makes due; returns the seed to `open` a stream to now, if any."""
        if self.candidate is not None and now >= self.candidate.answer_by_ns:
            self.close(self.candidate, "no answer")
            self.candidate_failed("no answer to Hello in time", now)
        stream = self.current
        if stream is not None and self._search is None and stream.late(self.ttl_ns, now):
            self._out.append(ev.TellLost(stream.address, "late with an ack"))
            self.search(now, at_ns=now + self.pace.backoff_ns(0))
        search = self._search
        if search is not None and self.candidate is None and now >= search.at_ns:
            return self._next_seed(search, now)
        return ""

    # Streams.

    def open(self, address: str, hello: msg.Hello, now: int) -> None:
        """Say Hello to a seed."""
        self._opened += 1
        self.candidate = Stream(self._opened, address, hello, now + self.pace.answer_ns)
        self._out.append(ev.Open(self._opened, address, hello))

    def welcomed(self, stream: Stream) -> None:
        """The candidate is the current stream from now on."""
        if self.current is not None:
            self.close(self.current, "resumed elsewhere")
        self.current, self.candidate, self._search = stream, None, None
        self._rest_until_ns = 0

    def candidate_refused(self, why: str) -> None:
        """The candidate's seed does not take the Hello."""
        if self.candidate is not None:
            self.close(self.candidate, why)
            self.candidate = None

    def candidate_failed(self, why: str, now: int) -> None:
        """The candidate comes to nothing: try the next seed."""
        stream, self.candidate = self.candidate, None
        if stream is not None:
            self.close(stream, why)
            self.try_next(why, stream.address, now)

    def current_ended(self, stream: Stream, why: str, now: int) -> None:
        """The current stream is there no more: look for another."""
        self.current = None
        if self.candidate is None:
            self.search(now, at_ns=now + self.pace.backoff_ns(0), last=stream.address)
        self._out.append(ev.TellLost(stream.address, why))

    def send(self, message: msg.ToSeed) -> None:
        """Tell the current stream's seed, if there is one."""
        if self.current is not None:
            self._out.append(ev.Send(self.current.number, message))

    def close(self, stream: Stream, why: str) -> None:
        """Nothing of this stream counts any more."""
        self._out.append(ev.Close(stream.number, why))

    def close_all(self, why: str) -> None:
        """And look for no seed."""
        for stream in (self.current, self.candidate):
            if stream is not None:
                self.close(stream, why)
        self.current = self.candidate = self._search = None

    # The search.

    def told(self, seeds: Iterable[str]) -> None:
        """A seed has named all seeds."""
        self._seeds.told(seeds)

    def search(self, now: int, *, at_ns: int, last: str = "") -> None:
        """Begin a search with a first try at `at_ns`; `last`: the seed to try last."""
        self._search = Search(at_ns, self._round(now, last))

    def goes_away(self, stream: Stream, now: int) -> None:
        """The current stream's seed said GoElsewhere."""
        stream.leaving = True
        if self._search is None:
            self.search(now, at_ns=now + self.pace.leisure_ns())

    def knows_nothing(self, now: int) -> None:
        """The current stream's seed said UNKNOWN."""
        if self._search is None and now >= self._rest_until_ns:
            self.search(now, at_ns=now + self.pace.leisure_ns())

    def renewed(self, now: int) -> None:
        """The current stream renews: another may not be needed any more."""
        if self.candidate is None and not self._needs_seed(now):
            self._search = None

    def try_next(self, why: str, address: str, now: int) -> None:
        """The seed at this address is of no use now."""
        self._out.append(ev.TellSearching(address, why))
        if self._search is not None:
            self._search.tries += 1
            self._search.at_ns = now + self.pace.backoff_ns(self._search.tries)

    def _needs_seed(self, now: int) -> bool:
        """Without another stream this incarnation ends."""
        stream = self.current
        return stream is None or stream.leaving or stream.late(self.ttl_ns, now)

    def _round(self, now: int, last: str = "") -> list[str]:
        stream = self.current
        if stream is None:
            return self._seeds.round(last=last)
        if stream.late(self.ttl_ns, now) and not stream.leaving:
            # Silence may be the connection's and not the seed's: a fresh one comes last.
            return self._seeds.round(last=stream.address)
        return self._seeds.round(without=stream.address)

    def _next_seed(self, search: Search, now: int) -> str:
        stream = self.current
        if stream is not None and not self._needs_seed(now) and not stream.unknown:
            self._search = None
            return ""
        if not search.round:
            if not self._needs_seed(now):
                self._search = None
                self._rest_until_ns = now + self.ttl_ns
                return ""
            search.round = self._round(now)
            if not search.round:
                # The one seed there is goes away: look again until it has, or others are known.
                search.at_ns = now + self.pace.idle_ns()
                return ""
        return search.round.pop(0)
