"""The rows of `benchmarks.movement`: what goes into them, and that they survive their file."""

from __future__ import annotations

from pathlib import Path

import grpc

from benchmarks.movement.figures import Latencies, read, row, save, table
from tests.support.load import Call, Load


def call(sent: float, took: float, *, ok: bool = True) -> Call:
    code = grpc.StatusCode.OK if ok else grpc.StatusCode.UNAVAILABLE
    return Call("k", sent, sent + took, code)


def test_a_row_knows_what_was_before_during_and_after(tmp_path: Path) -> None:
    record = Load([call(1, 9), call(8, 0.1), call(11, 2, ok=False), call(12, 3), call(21, 0.2)])
    made = row("worker crash", 8, 1024, record, 10, 20, 5)
    assert made.before == Latencies(1, 0, 100.0, 100.0, 100.0)
    assert made.during == Latencies(2, 1, 3000.0, 3000.0, 3000.0)
    assert made.after == Latencies(1, 0, 200.0, 200.0, 200.0)
    assert made.pause_max == 4000.0
    save([made, made], tmp_path / "rows.json")
    assert read(tmp_path / "rows.json") == [made, made]
    assert "| worker crash | 8 | 1024 | 10.0 | 100.0 / 100.0 / 100 |" in table([made])
