"""How long entities were away while something happened to the cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tests.support.load import Call, Load


def quantile(values: Iterable[float], share: float) -> float:
    """The value that this share of all is not above; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def in_ms(seconds: Iterable[float]) -> str:
    """`p50 .., p99 .., max ..` of times in seconds, shown in ms."""
    times = list(seconds)
    p50, p99, most = (quantile(times, share) * 1e3 for share in (0.5, 0.99, 1.0))
    return f"p50 {p50:.1f}, p99 {p99:.1f}, max {most:.1f} ms (n={len(times)})"


def moved_keys(record: Load, begin: float, end: float) -> set[str]:
    """Keys that answered under more than one epoch to calls sent within these times."""
    epochs: defaultdict[str, set[int]] = defaultdict(set)
    for call in record.calls:
        if call.ok and begin <= call.sent <= end:
            epochs[call.key].add(call.epoch)
    return {key for key, seen in epochs.items() if len(seen) > 1}


def pauses(
    record: Load, begin: float, end: float, keys: Iterable[str] | None = None
) -> dict[str, float]:
    """For each key (of those given) its longest wait in seconds, of calls sent within these times:
    from sending to the key's next good answer. `inf` if it never answered again."""
    by_key: defaultdict[str, list[Call]] = defaultdict(list)
    for call in record.calls:
        by_key[call.key].append(call)
    wanted = by_key if keys is None else set(keys)
    found = ((key, _longest_wait(by_key.get(key, []), begin, end)) for key in wanted)
    return {key: wait for key, wait in found if wait is not None}


def _longest_wait(calls: Sequence[Call], begin: float, end: float) -> float | None:
    waits: list[float] = []
    good = sorted(call.done for call in calls if call.ok)
    due = 0
    for call in sorted(calls, key=lambda call: call.sent):
        while due < len(good) and good[due] < call.sent:
            due += 1
        if begin <= call.sent <= end:
            waits.append(good[due] - call.sent if due < len(good) else float("inf"))
    return max(waits, default=None)
