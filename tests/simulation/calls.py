"""Calls from clients, and what their answers must never show.

Each entity counts its calls, in memory. So an answer is an epoch and a count, and these must hold:

- no answer of an older epoch to a call that was invoked after a newer epoch had answered;
- no worker decides to answer under an epoch when a newer one has answered already (between that
  decision and the answer's arrival the process may stand still, which nobody can prevent);
- no count twice in one epoch: memory that was dropped never comes back to the same epoch.

For durable types the first two are bounded in time instead: what has no record may be stale for a
TTL after a lease was ended early.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from seedbed.ids import NO_EPOCH, NO_GENERATION, Epoch, Generation
from tests.simulation.kernel import MS, SECOND, Kernel, Violation

TTL_NS = 4 * SECOND
HANDOFF_NS = 1_500 * MS
"""The limit of a hand-off."""
ATTEMPTS = 40
"""More of them for one call is a hot loop."""


class Answered(NamedTuple):
    epoch: Epoch
    nth: int


class NotHere(NamedTuple):
    generation: Generation


class Lost(NamedTuple):
    """It may have run; nobody will say."""


Outcome: TypeAlias = Answered | NotHere | Lost
Answer: TypeAlias = Callable[[Outcome], None]


@dataclass(eq=False, slots=True)
class Call:
    number: int
    type: str
    shard: int
    deadline_ns: int
    floor: Epoch
    attempt: int = 0
    used: Generation = NO_GENERATION
    epoch: Epoch = NO_EPOCH
    owner: str = ""
    blocked: Generation = NO_GENERATION
    """A refusal or a broken link says nothing new before a table above this generation."""
    in_flight: bool = False
    given_up: bool = False
    """Its shard has moved: the answer is waited for, but not for long."""
    direct: bool = False
    """Straight to a worker's own port: it does not wait for the shard's owner."""
    brief: bool = False
    """Its turn takes no time to speak of."""
    ended: str = ""

    def __str__(self) -> str:
        return f"call {self.number} {self.type}/{self.shard}"


@dataclass(slots=True)
class _Answers:
    newest: Epoch = NO_EPOCH
    since_ns: dict[Epoch, int] = field(default_factory=dict[Epoch, int])
    """When each epoch first answered."""
    counts: set[tuple[Epoch, int]] = field(default_factory=set[tuple[Epoch, int]])


class Referee:
    """Sees every answer."""

    def __init__(self, kernel: Kernel, durable: frozenset[str]) -> None:
        self.calls: list[Call] = []
        self.answered = 0
        self._kernel = kernel
        self._durable = durable
        self._answers: dict[tuple[str, int], _Answers] = {}

    def invoke(self, type_: str, shard: int, deadline_ns: int) -> Call:
        known = self._of(type_, shard)
        call = Call(len(self.calls), type_, shard, deadline_ns, known.newest)
        self.calls.append(call)
        return call

    def decided(self, call: Call, epoch: Epoch) -> None:
        """A worker is about to answer."""
        self._check(call, epoch, self._of(call.type, call.shard).newest, "decided to answer")

    def accept(self, call: Call, answer: Answered) -> None:
        """A client has the answer."""
        if call.ended:
            return
        known = self._of(call.type, call.shard)
        self._check(call, answer.epoch, call.floor, "answered")
        if (answer.epoch, answer.nth) in known.counts:
            raise Violation(f"{call}: count {answer.nth} twice in epoch {answer.epoch}")
        known.counts.add((answer.epoch, answer.nth))
        known.since_ns.setdefault(answer.epoch, self._kernel.now_ns)
        known.newest = max(known.newest, answer.epoch)
        self.answered += 1
        self.end(call, "answered")

    def end(self, call: Call, how: str) -> None:
        if not call.ended:
            call.ended = how
            self._kernel.log(f"{call}: {how}, epoch {call.epoch}")

    def _check(self, call: Call, epoch: Epoch, newer: Epoch, what: str) -> None:
        if epoch >= newer:
            return
        known = self._of(call.type, call.shard)
        since_ns = min(at for e, at in known.since_ns.items() if e > epoch)
        if call.type in self._durable and self._kernel.now_ns <= since_ns + TTL_NS:
            return
        raise Violation(f"{call}: old epoch {epoch} {what} after {newer} had")

    def _of(self, type_: str, shard: int) -> _Answers:
        return self._answers.setdefault((type_, shard), _Answers())
