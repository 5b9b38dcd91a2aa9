"""Movement under load: JSON in benchmarks/results, on request also docs/performance.md and its
picture. `make bench-movement`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.movement.events import EVENTS
from benchmarks.movement.figures import Row, read, save, table
from benchmarks.movement.measure import measure

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results" / "movement.json"
PAGE: Final = ROOT / "docs" / "performance.md"
PICTURE: Final = ROOT / "docs" / "performance-movement.png"
BEGIN: Final = "<!-- movement: written by benchmarks.movement -->\n"
END: Final = "<!-- movement ends -->\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--workers", type=int, nargs="+", default=[2, 8, 32])
    arguments.add_argument("--shards", type=int, nargs="+", default=[128, 1024, 8192])
    arguments.add_argument("--events", nargs="+", default=list(EVENTS), choices=list(EVENTS))
    arguments.add_argument("--quiet", type=float, default=5.0, help="seconds before and after")
    arguments.add_argument("--docs", action="store_true", help="write docs/performance.md")
    arguments.add_argument("--read", action="store_true", help="take the last run's figures")
    chosen = arguments.parse_args()
    rows = read(RESULTS) if chosen.read else asyncio.run(_run(chosen))
    print(table(rows))
    if chosen.docs:
        _write_docs(rows)


async def _run(chosen: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for workers in chosen.workers:
        for shards in chosen.shards:
            async for row in measure(workers, shards, chosen.events, chosen.quiet):
                rows.append(row)
                save(rows, RESULTS)  # after each, since a whole run takes long
                print(table([row]).splitlines()[-1], flush=True)
    return rows


def _write_docs(rows: Sequence[Row]) -> None:
    from benchmarks.movement.plot import plot

    plot(rows, PICTURE)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table(rows)}\n{END}{after}")


if __name__ == "__main__":
    main()
