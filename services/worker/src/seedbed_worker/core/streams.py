"""What a session keeps of one Register stream, and of its search for the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from seedbed_worker.core.session_messages import Hello

SECOND = 1_000_000_000

JOIN_ANSWER_NS = 3 * SECOND
"""How long a seed may take over the Hello of a new incarnation (it may dial the old one first)."""
JOIN_BACKOFF_NS = SECOND // 10
JOIN_BACKOFF_CAP_NS = SECOND


@dataclass(slots=True)
class Stream:
    """One stream; `unanswered` has the send times of heartbeats by number, oldest first."""

    number: int
    address: str
    hello: Hello
    answer_by_ns: int
    """When its seed must have answered the Hello."""
    next_beat_ns: int = 0
    unanswered: dict[int, int] = field(default_factory=dict[int, int])
    unknown: bool = False
    """Its last ack was UNKNOWN."""
    leaving: bool = False
    """Its seed said GoElsewhere."""

    def answered(self, seq: int) -> None:
        """An ack came: also heartbeats before it are answered."""
        for known in [known for known in self.unanswered if known <= seq]:
            del self.unanswered[known]

    def late_at_ns(self, ttl_ns: int) -> int | None:
        """When an ack is late by a quarter of a TTL; None if none is awaited."""
        oldest = next(iter(self.unanswered.values()), None)
        return None if oldest is None else oldest + ttl_ns // 4

    def late(self, ttl_ns: int, now_ns: int) -> bool:
        late_at = self.late_at_ns(ttl_ns)
        return late_at is not None and now_ns >= late_at


@dataclass(slots=True)
class Search:
    """Who is tried next and when; `round` has the seeds not yet tried in this round."""

    at_ns: int
    round: list[str]
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """Waits of a search: full jitter, capped; short while a lease runs out."""

    chance: Callable[[], float]
    ttl_ns: int
    resuming: bool

    @property
    def answer_ns(self) -> int:
        """How long a seed may take over a Hello."""
        return self.ttl_ns // 4 if self.resuming else JOIN_ANSWER_NS

    def backoff_ns(self, tries: int) -> int:
        """Before the next try, after `tries` that failed."""
        if self.resuming:
            base, cap = self.ttl_ns // 32, self.ttl_ns // 8
        else:
            base, cap = JOIN_BACKOFF_NS, JOIN_BACKOFF_CAP_NS
        return self.jitter_ns(min(cap, base << min(tries, 10)))

    def leisure_ns(self) -> int:
        """Before the first try while the current stream still serves: within TTL/8."""
        return self.jitter_ns(self.ttl_ns // 8)

    def idle_ns(self) -> int:
        """Before looking again when there is no other seed to try."""
        return self.ttl_ns // 16 + self.backoff_ns(0)

    def jitter_ns(self, most_ns: int) -> int:
        return int(self.chance() * most_ns)
