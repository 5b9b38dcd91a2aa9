"""The rules for what a turn calls: how long, under which id, who waits, and how many at once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from seedbed.callers import AnyCall
from seedbed.calls import EntityCall, Failed
from seedbed.errors import CallError, Reason
from seedbed.request_ids import DerivedIds, minted_at_ms
from seedbed_worker.entity_store import Commit
from seedbed_worker.onward_errors import OnwardError, onward_error

if TYPE_CHECKING:
    from seedbed_worker.jobs import Job  # a job has its calls
    from seedbed_worker.onward import Onward  # it makes them

log = logging.getLogger(__name__)


class TurnCalls:
    """What one call's turns call (a hook's apart): the `Caller` of those calls."""

    __slots__ = (
        "_counts", "_forgotten", "_ids", "_job", "_left", "_onward", "_queue", "_under_way",
        "begun", "in_hook",
    )  # fmt: skip

    def __init__(self, onward: Onward, job: Job) -> None:
        self._onward = onward
        self._job = job
        self._counts: dict[tuple[str, str, str], int] = {}
        """Calls without a name, by what they call."""
        self._ids: DerivedIds | None = None
        self._under_way: dict[AnyCall, bool] = {}
        """Those with one reply; whether they have left."""
        self._left = 0
        """How many of them have."""
        self._queue: deque[AnyCall] = deque()
        self._forgotten: AnyCall | None = None
        """One that ended before anybody asked for it."""
        self.begun = 0
        self.in_hook = job.in_hook

    def has_only_one(self, call: EntityCall) -> bool:
        """This call has called nothing else so far, and was not outside."""
        job = self._job
        return job.call is call and self.begun == 1 and not job.was_outside

    def waits_for(self) -> str:
        """What the turn waits for, in words; empty: for none of its calls."""
        waiting = [call for call in self._under_way if not call.done()]
        if not waiting:
            return ""
        more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        return f"a call to {_target(waiting[0].call, waiting[0].path)}{more}"

    def forgotten(self) -> AnyCall | None:
        """A call that nobody has asked for so far."""
        if self._forgotten is not None and not self._forgotten.asked:
            return self._forgotten
        return next((call for call in self._under_way if not call.asked), None)

    def turn_ended(self) -> None:
        """Warn of a call that nobody asked for. It goes on, as in plain grpc.aio."""
        forgotten = self.forgotten()
        if forgotten is not None:
            log.warning(
                "call never awaited",
                extra={
                    "entity": self._job.home.hosted.name,
                    "method": self._job.call.method,
                    "target": forgotten.path,
                },
            )

    # As the caller of its calls.

    def deadline_ns(self, timeout: float | None, *, stream: bool) -> int | None:
        """The shorter of the given and the turn's."""
        turns_ns = self._job.call.deadline_ns
        if timeout is None:
            if stream or turns_ns is not None:
                return turns_ns
            timeout = self._onward.default_deadline_s
        given_ns = self._onward.session.clock.now_ns() + int(timeout * 1e9)
        return given_ns if turns_ns is None else min(given_ns, turns_ns)

    def made(self, call: AnyCall | None) -> None:
        self.begun += 1
        if call is not None:
            call.when_ended(partial(self._ended, call))
            self._under_way[call] = False

    def forget(self, ready: Callable[[], None]) -> None:
        """Nothing: a call that ends before there are routes is counted like all others."""

    def prepare(self, call: EntityCall) -> None:
        """Its id, its trace, and who waits for it; a call to one of those is refused."""
        mine = self._job.call
        if not call.request_id:
            call.request_id = self._derive(call)
        if not call.traceparent:
            call.traceparent, call.tracestate = mine.traceparent, mine.tracestate
        call.chain = (
            mine.chain if self._job.is_outside else (*mine.chain, f"{mine.type}/{mine.key}")
        )
        target = f"{call.type}/{call.key}"
        if target in call.chain:
            raise CallError(
                Reason.CALL_CYCLE,
                f"{target} waits for this call: {' -> '.join((*call.chain, target))}; nothing ran."
                " Make one of these calls in `async with self.outside():`, or later, from a"
                " reminder",
            )

    def lets(self, call: AnyCall) -> bool:
        """At most SEEDBED_ONWARD_CALLS are under way for a turn; the others wait in line. None
        leaves before all that the turn could have seen is kept."""
        commit = self._job.home.commits.under_way.get(self._job.call.key)
        if commit is not None:
            commit.then(partial(self._kept, call))
            return False
        if self._left >= self._job.home.rt.limits.onward_calls:
            self._queue.append(call)
            return False
        self._under_way[call] = True
        self._left += 1
        return True

    def error(self, outcome: Failed, path: str, call: EntityCall | None) -> OnwardError:
        return onward_error(outcome, self, _target(call, path))

    def _ended(self, call: AnyCall) -> None:
        if not call.asked and (self._forgotten is None or self._forgotten.asked):
            self._forgotten = call
        if self._under_way.pop(call):
            self._left -= 1
            while self._queue:
                other = self._queue.popleft()
                if other in self._under_way:  # else it was given up meanwhile
                    if self.lets(other):
                        other.leave()
                    break

    def _kept(self, call: AnyCall, commit: Commit) -> None:
        if commit.error is None and call in self._under_way and self.lets(call):
            call.leave()

    def _derive(self, call: EntityCall) -> str:
        job = self._job
        if self.in_hook or job.streaming:  # never run again as the same turn
            return self._onward.session.mint()
        ids = self._ids
        if ids is None:
            ids = self._ids = self._ids_of_turn()
        place = (call.type, call.key, call.method)
        ordinal = self._counts.get(place, 0)
        self._counts[place] = ordinal + 1
        return ids.of(*place, str(ordinal))

    def _ids_of_turn(self) -> DerivedIds:
        rt, mine = self._job.home.rt, self._job.call
        if not mine.request_id:
            mine.request_id = rt.request_ids.mint()
        at_ms = minted_at_ms(mine.request_id)
        if at_ms is None:
            at_ms = self._job.attempt_ms()
        if at_ms is None:
            ago_ms = (rt.clock.now_ns() - self._job.started_ns) // 1_000_000
            at_ms = self._onward.first_attempts.at_ms(
                (mine.type, mine.key, mine.request_id), rt.clock.wall_ms() - ago_ms
            )
        return DerivedIds(at_ms, mine.type, mine.key, mine.method, mine.request_id)


def _target(call: EntityCall | None, path: str) -> str:
    if call is None:  # without routes, or without a good key
        return path
    return f"{call.type}/{call.key} {path.rpartition('/')[2]}"
