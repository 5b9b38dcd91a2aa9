"""Until when this incarnation may serve: the lease as the worker itself counts it.

Theory. The store starts a lease's timer anew when it carries out a renewal. The worker cannot see
that moment, but it knows one that came before it: when it sent the heartbeat that asked for the
renewal. A seed acknowledges a heartbeat only by a renewal begun after the heartbeat had arrived, so

    sent  <=  renewal in the store,   hence   sent + ttl  <=  end of the lease in the store.

Validity ends a margin earlier, which pays for a clock that runs wrong. Nothing here depends on how
long a message takes: an acknowledgement that comes late only leaves less to live on.

Two rules make an end final. A lease that has lapsed is never renewed: by then its owner may have
dropped its memory, and a revived epoch would start the same memory twice. And fenced is for ever;
a worker that wants to go on rejoins as a new incarnation with a `Lease` of its own.

Threads. The session thread alone calls `sent`, `renewed` and `detached`. Anyone may `fence` and
read. Each fact is one attribute, replaced by one assignment of an immutable value; validity only
ever moves forward and the fence is only ever set, so no reader can see a mixture that never was.
"""

from __future__ import annotations

from seedbed.ids import Incarnation

_REMEMBERED = 16
"""Heartbeats whose send time is kept: they are a quarter of a TTL apart, older ones lapsed."""


class Lease:
    """The lease of one incarnation. Times are CLOCK_BOOTTIME nanoseconds of this process."""

    __slots__ = (
        "_fenced",
        "_margin_ns",
        "_sent",
        "_until_ns",
        "attached",
        "incarnation",
        "ttl_ns",
    )

    def __init__(self, incarnation: Incarnation, ttl_ns: int, margin_ns: int) -> None:
        self.incarnation = incarnation
        self.ttl_ns = ttl_ns
        self._margin_ns = margin_ns
        self._sent: dict[int, int] = {}
        self._until_ns = 0
        self.attached = False
        """A renewal came on the present Register stream. Without one a seed may be about to take
        this worker for dead, so no turn is started whose reply would have no record."""
        self._fenced = False

    def sent(self, seq: int, now_ns: int) -> None:
        """Note when a heartbeat is sent; call it before the bytes leave."""
        self._sent[seq] = now_ns
        while len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def renewed(self, seq: int, ttl_ns: int, now_ns: int) -> bool:
        """Take a RENEWED for heartbeat `seq`; False if it changes nothing any more.

        False too once the lease has lapsed or is fenced: the caller then fences and rejoins.
        """
        sent_ns = self._sent.pop(seq, None)
        if self.lapsed(now_ns) or sent_ns is None:
            return False
        until_ns = sent_ns + ttl_ns - self._margin_ns
        if until_ns <= max(now_ns, self._until_ns):
            return False
        self.ttl_ns = ttl_ns
        self._until_ns = until_ns
        self.attached = True
        return True

    def detached(self) -> None:
        """The Register stream is gone: until a renewal comes on a new one, `attached` is False."""
        self._sent.clear()
        self.attached = False

    def fence(self) -> None:
        """End it for ever."""
        self._fenced = True

    def valid(self, now_ns: int) -> bool:
        """May turns start and unrecorded replies leave? False before the first renewal."""
        return now_ns < self._until_ns and not self._fenced

    def lapsed(self, now_ns: int) -> bool:
        """It is over: fenced, or once valid and no more."""
        return self._fenced or 0 < self._until_ns <= now_ns

    @property
    def fenced(self) -> bool:
        return self._fenced

    @property
    def valid_until_ns(self) -> int:
        """End of validity; 0 before the first renewal."""
        return self._until_ns
