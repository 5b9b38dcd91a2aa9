"""What was measured, as rows: for people, for JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tests.support.load import Call, Load
from tests.support.pauses import pauses, quantile

Phase: TypeAlias = Literal["before", "during", "after"]
PHASES: Final[tuple[Phase, ...]] = ("before", "during", "after")


@dataclass(frozen=True)
class Latencies:
    """Calls of one phase; times in ms. `error`: calls that failed."""

    calls: int
    errors: int
    p50: float
    p99: float
    most: float


@dataclass(frozen=True)
class Row:
    """One event on one cluster; `pause`: the longest wait of each key, `took_s`: the event."""

    event: str
    workers: int
    shards: int
    took_s: float
    before: Latencies
    during: Latencies
    after: Latencies
    pause_p50: float
    pause_p99: float
    pause_max: float

    def phase(self, name: Phase) -> Latencies:
        return {"before": self.before, "during": self.during, "after": self.after}[name]


def row(
    event: str, workers: int, shards: int, record: Load, begin: float, end: float, quiet_s: float
) -> Row:
    """The row of an event between these times, with so much quiet around it."""
    waits = [wait * 1e3 for wait in pauses(record, begin, end).values()]
    calls = record.calls
    return Row(
        *(event, workers, shards, round(end - begin, 2)),
        before=_latencies(call for call in calls if begin - quiet_s <= call.sent < begin),
        during=_latencies(call for call in calls if begin <= call.sent <= end),
        after=_latencies(call for call in calls if end < call.sent <= end + quiet_s),
        pause_p50=_ms(quantile(waits, 0.5)),
        pause_p99=_ms(quantile(waits, 0.99)),
        pause_max=_ms(quantile(waits, 1.0)),
    )


def save(rows: Iterable[Row], file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def read(file: Path) -> list[Row]:
    def made(found: dict[str, object]) -> object:
        return Latencies(**found) if "errors" in found else Row(**found)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # our own file's

    rows: list[Row] = json.loads(file.read_text(), object_hook=made)
    return rows


def table(rows: Iterable[Row]) -> str:
    """A Markdown table: one line for each event and cluster."""
    head = (
        "| event | workers | shards | took s | before | during | after | failed"
        " | pause of a key |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    return "\n".join([head, *(_line(row) for row in rows)])


def _line(row: Row) -> str:
    times = " | ".join(
        f"{one.p50:.1f} / {one.p99:.1f} / {one.most:.0f}"
        for one in (row.phase(phase) for phase in PHASES)
    )
    failed = sum(row.phase(phase).errors for phase in PHASES)
    pause = f"{row.pause_p50:.0f} / {row.pause_p99:.0f} / {row.pause_max:.0f}"
    return (
        f"| {row.event} | {row.workers} | {row.shards} | {row.took_s:.1f} | {times} | {failed}"
        f" | {pause} |"
    )


def _latencies(chosen: Iterable[Call]) -> Latencies:
    calls = list(chosen)
    took = [call.took * 1e3 for call in calls if call.ok]
    p50, p99, most = (_ms(quantile(took, share)) for share in (0.5, 0.99, 1.0))
    return Latencies(len(calls), sum(not call.ok for call in calls), p50, p99, most)


def _ms(value: float) -> float:
    return round(value, 2)
