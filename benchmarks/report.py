"""The table of figures: medians over rounds, ratios pair by pair within a round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TypedDict


class Row(TypedDict):
    name: str
    value: float
    unit: str
    target: str
    met: bool | None
    p50_ms: float | None
    p99_ms: float | None


@dataclass
class Report:
    """Rows in the order in which they were measured."""

    _rows: list[Row] = field(default_factory=list[Row])

    def add(
        self,
        name: str,
        values: list[float],
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        p50_ms: list[float] | None = None,
        p99_ms: list[float] | None = None,
    ) -> None:
        """Record the median of the rounds' values, and whether it meets the target."""
        value = statistics.median(values)
        target, met = "", None
        if at_least is not None:
            target, met = f">= {at_least:g}", value >= at_least
        if at_most is not None:
            target, met = f"<= {at_most:g}", value <= at_most
        self._rows.append(
            Row(
                name=name,
                value=round(value, 4),
                unit=unit,
                target=target,
                met=met,
                p50_ms=round(statistics.median(p50_ms), 3) if p50_ms else None,
                p99_ms=round(statistics.median(p99_ms), 3) if p99_ms else None,
            )
        )

    def rows(self) -> list[Row]:
        return list(self._rows)

    def table(self) -> str:
        head = (
            f"{'figure':58} {'value':>10} {'unit':10} {'target':>10} {'met':4} {'p50/p99 ms':>16}"
        )
        lines = [head, "-" * len(head)]
        for row in self._rows:
            met = {True: "yes", False: "NO", None: ""}[row["met"]]
            took = f"{row['p50_ms']} / {row['p99_ms']}" if row["p50_ms"] is not None else ""
            lines.append(
                f"{row['name']:58} {row['value']:>10.4g} {row['unit']:10} {row['target']:>10}"
                f" {met:4} {took:>16}"
            )
        return "\n".join(lines)
