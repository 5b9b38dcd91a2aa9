"""The figures as a picture: what calls and keys saw of each event, by size of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.movement.figures import Row


def plot(rows: Sequence[Row], file: Path) -> None:
    """Above the p99 of calls before and during each event, below the longest pause of a key."""
    sizes = sorted({row.workers for row in rows})
    events = list(dict.fromkeys(row.event for row in rows))
    figure = Figure(figsize=(4 * len(events), 7))
    panels = figure.subplots(2, len(events), sharex=True, sharey="row", squeeze=False)
    for column, event in enumerate(events):
        upper, lower = panels[0][column], panels[1][column]
        for shards in sorted({row.shards for row in rows}):
            chosen = sorted(
                (row for row in rows if row.event == event and row.shards == shards),
                key=lambda row: row.workers,
            )
            workers = [row.workers for row in chosen]
            label = f"{shards} shards"
            (line,) = upper.plot(workers, [row.during.p99 for row in chosen], "o-", label=label)
            before = [row.before.p99 for row in chosen]
            upper.plot(workers, before, ":", color=line.get_color(), label=f"{label}, before")
            lower.plot(workers, [row.pause_max for row in chosen], "o-", label=label)
        upper.set_title(event)
        lower.set_xlabel("workers")
        for panel in (upper, lower):
            panel.set_xscale("log", base=2)
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.set_yscale("log")
            panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("p99 of calls, ms")
    panels[1][0].set_ylabel("longest pause of a key, ms")
    panels[0][-1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file, dpi=90)  # pyright: ignore[reportUnknownMemberType]  # its stub's **kwargs
