"""What the entities of a load did, against what its callers were told."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.support.load import Call

ENTITIES = "tests.support.witness:Witness"
DURABLE_ENTITIES = "tests.support.durable_census:DurableWitness"
"""For `cluster(entities=...)`, with `worker_env={witness.FILE: ...}`."""

CLOCKS_DIFFER_S = 1e-6
"""An event loop's time is a float; a worker's is in ns."""


@dataclass(frozen=True)
class Effect:
    """One call that an entity carried out; `time` in seconds (CLOCK_MONOTONIC)."""

    key: str
    number: int
    epoch: int
    worker: str
    time: float


def effects_of(file: Path) -> list[Effect]:
    """All effects so far, in the order in which they were written."""
    if not file.exists():
        return []
    return [_effect(line) for line in file.read_text().splitlines()]


def check_effects(calls: Iterable[Call], effects: Iterable[Effect]) -> None:
    """Nothing acknowledged is lost, nothing was done twice, nothing out of order.

    Raises `AssertionError` with the first that is: an acknowledged call without its effect, any
    call with two, an effect that nobody asked for, one outside the time of its acknowledged call,
    one of an older epoch after one of a newer, and one that comes before that of a call of its
    key which had been answered before its own was sent.
    """
    calls, effects = list(calls), list(effects)
    asked = {call.number: call for call in calls}
    assert len(asked) == len(calls), "calls need numbers of their own"
    found: dict[int, Effect] = {}
    for effect in effects:
        assert effect.number in asked, f"nobody asked for {effect}"
        assert effect.number not in found, f"doubled: {effect} and {found[effect.number]}"
        found[effect.number] = effect
        call = asked[effect.number]
        assert effect.key == call.key, f"another entity's: {effect} of {call}"
    for call in calls:
        if call.ok:
            assert call.number in found, f"lost: {call}"
            effect = found[call.number]
            early, late = call.sent - CLOCKS_DIFFER_S, call.done + CLOCKS_DIFFER_S
            assert early <= effect.time <= late, f"not while it was asked for: {effect} of {call}"
    _check_order(calls, found)


def _check_order(calls: list[Call], found: dict[int, Effect]) -> None:
    done: defaultdict[str, list[Effect]] = defaultdict(list)
    for effect in found.values():
        done[effect.key].append(effect)
    for effects in done.values():
        effects.sort(key=lambda effect: effect.time)
        for older, newer in pairwise(effects):
            assert older.epoch <= newer.epoch, f"an old owner's: {newer} after {older}"
    good: defaultdict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.done):
        if call.ok:
            good[call.key].append(call)
    for key, answered in good.items():
        times = [call.done for call in answered]
        latest: list[Effect] = []
        for call in answered:
            effect = found[call.number]
            latest.append(max([*latest[-1:], effect], key=lambda effect: effect.time))
        for call in (call for call in calls if call.key == key and call.number in found):
            before = bisect_right(times, call.sent)
            if before:
                effect, older = found[call.number], latest[before - 1]
                assert older.time <= effect.time, f"reordered: {effect} before {older}"


def unasked(calls: Iterable[Call], effects: Iterable[Effect], timeout: float) -> int:
    """Effects for callers that had given up: later than their deadline."""
    late = {call.number: call.sent + timeout for call in calls if not call.ok}
    counts = Counter(effect.time > late.get(effect.number, effect.time) for effect in effects)
    return counts[True]


def _effect(line: str) -> Effect:
    key, number, epoch, worker, time_ns = line.split(" ")
    return Effect(key, int(number), int(epoch), worker, int(time_ns) / 1e9)
