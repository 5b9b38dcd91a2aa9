"""Calls that were made before: each has its effect once, and every repeat gets the first outcome.

A repeat that comes while the first one waits, runs or is being stored waits for its end, and then
looks again. One that comes later finds the outcome, which was stored in one record with what the
call changed: in memory, or in the store after a move or a crash. A turn that changed nothing is not
remembered: it may run again. An id of ours carries its time: one that an edge has minted is kept
for MADE_MS, and one that follows from another turn's for the window of the settings, since that
turn may be a reminder's, or one under a caller's name. A call that is repeated later under it is
refused. A name that the caller gave is kept for the window too. The first attempt under an id that
an edge has minted for it is no repeat: nothing is looked up.
"""

from __future__ import annotations

from typing import Final

from msgspec import DecodeError

from seedbed.calls import EntityCall, Failed, Replied
from seedbed.errors import CallError, Reason, UnreadableState
from seedbed.metadata import IDEMPOTENCY_KEY
from seedbed.request_ids import is_minted, minted_at_ms
from seedbed.status import failed
from seedbed_worker.cells import Shard
from seedbed_worker.core.outcomes import Kept, Outcomes
from seedbed_worker.entity_store import EntityStore
from seedbed_worker.household import Household
from seedbed_worker.jobs import Job
from seedbed_worker.outcome_codec import decode, digest, encode

MADE_MS: Final = 300_000
"""How long what came of a call under a minted id is kept: no router repeats an older one."""

FETCHED: Final = 100
"""Outcomes of an entity that are read from the store at once."""


class Repeats:
    """Those of one type. `store` is asked for what is not in memory."""

    def __init__(self, home: Household, store: EntityStore) -> None:
        self._home = home
        self._store = store
        self._type = home.hosted.contract.type
        self._first: dict[tuple[str, str], Job] = {}
        """Calls under way, by entity and id."""
        self._followers: dict[Job, list[Job]] = {}
        """Repeats of these that wait for their end."""
        self._outcomes: dict[str, Outcomes] = {}
        """Of entities in memory; the least recently changed first."""
        self._size = 0

    def joins(self, job: Job) -> bool:
        """Another call of this id is under way: this one waits for its end."""
        place = (job.call.key, job.call.request_id)
        first = self._first.setdefault(place, job)
        if first is job:
            return False
        self._followers.setdefault(first, []).append(job)
        return True

    def left(self, job: Job) -> None:
        """The call is over: who waits for it looks again."""
        place = (job.call.key, job.call.request_id)
        if self._first.get(place) is not job:
            return
        del self._first[place]
        for follower in self._followers.pop(job, ()):
            if not follower.ended:
                self._home.readmit(follower)

    def look(self, job: Job) -> tuple[bool, Replied | Failed | None]:
        """Whether this is known from memory, and what the call came to (None: it is to run)."""
        entity, call = job.entity, job.call
        assert entity is not None
        outcomes = self._outcomes.get(call.key)
        now_ms = self._home.rt.clock.wall_ms()
        made_ms = _made_ms(call)
        first = made_ms is not None and call.attempt == 1 and is_minted(call.request_id)
        if outcomes is None:
            if entity.seedbed_seq and not first:
                return False, None
            since_ms = now_ms if entity.seedbed_seq else 0
            outcomes = self._outcomes[call.key] = Outcomes(since_ms)
        if first:  # as nearly all calls are
            return True, None
        found = outcomes.get(call.request_id)
        if found is not None and found.keep_until_ms > now_ms:
            return True, _again(call, found, job.shard)
        window_ms = self._window_ms(call)
        if made_ms is not None and made_ms + window_ms <= now_ms:
            return True, _too_old(now_ms - made_ms, window_ms)
        return found is not None or not outcomes.may_be_stored(made_ms), None

    async def ask(self, job: Job) -> Replied | Failed | None:
        """As `look`, from the store too. Raises `CallError`."""
        call = job.call
        if call.key not in self._outcomes:
            newest = await self._store.outcomes(self._type, call.key, FETCHED, job.shard)
            outcomes = Outcomes(0 if len(newest) < FETCHED else newest[-1].time_ms, newest)
            self._outcomes[call.key] = outcomes
            self._size += outcomes.size
        is_known, answer = self.look(job)
        if is_known:
            return answer
        found = await self._store.outcome(self._type, call.key, call.request_id, job.shard)
        if found is None or found.keep_until_ms <= self._home.rt.clock.wall_ms():
            return None
        return _again(call, found, job.shard)

    def outcome(self, job: Job, answer: Replied | Failed) -> Kept:
        """What is to be recorded of a call that has changed something; from now on it is known."""
        call = job.call
        now_ms = self._home.rt.clock.wall_ms()
        made_ms = _made_ms(call)
        until_ms = max(now_ms, made_ms or 0) + self._window_ms(call)
        kept = Kept(call.request_id, encode(call, answer), now_ms, until_ms)
        self._remember(call.key, kept, now_ms)
        return kept

    def _window_ms(self, call: EntityCall) -> int:
        if _made_ms(call) is not None and is_minted(call.request_id):
            return MADE_MS
        return int(self._home.rt.limits.repeat_window_s * 1000)

    def forget(self, key: str) -> None:
        """The entity has left memory."""
        outcomes = self._outcomes.pop(key, None)
        if outcomes is not None:
            self._size -= outcomes.size

    def _remember(self, key: str, kept: Kept, now_ms: int) -> None:
        outcomes = self._outcomes.pop(key, None)
        if outcomes is None:  # it was forgotten for its size while the turn ran
            return
        most = self._home.rt.limits.repeat_bytes
        self._size -= outcomes.size
        outcomes.add(kept)
        outcomes.trim(most // 16, now_ms)
        self._size += outcomes.size
        self._outcomes[key] = outcomes
        while self._size > most:
            self.forget(next(iter(self._outcomes)))


def _made_ms(call: EntityCall) -> int | None:
    """The time in an id of ours; None for a name that the caller gave."""
    for name, value in call.metadata:
        if name == IDEMPOTENCY_KEY and value == call.request_id:
            return None
    return minted_at_ms(call.request_id)


def _again(call: EntityCall, kept: Kept, shard: Shard) -> Replied | Failed:
    """The first outcome, if this is the same call. Raises `UnreadableState`."""
    try:
        told = decode(kept.data)
    except DecodeError as error:
        raise UnreadableState(
            f"what came of the call {call.request_id!r} of {call.type} {call.key!r} cannot be"
            f" read: {error}; nothing ran"
        ) from error
    ours = _made_ms(call) is not None
    if told.method != call.method or (ours and told.request != digest(call.request)):
        return failed(
            CallError(
                Reason.REQUEST_ID_REUSED,
                f"the id {call.request_id!r} was used for another call of this entity"
                f" ({told.method}); nothing ran: give each call an id of its own",
            )
        )
    return told.answer(shard.epoch)


def _too_old(ms: int, window_ms: int) -> Failed:
    return failed(
        CallError(
            Reason.REQUEST_TOO_OLD,
            f"the call was first made {ms / 1000:.0f} s ago, and what came of it is kept for"
            f" {window_ms // 1000} s: it may have run then; nothing ran now",
        )
    )
