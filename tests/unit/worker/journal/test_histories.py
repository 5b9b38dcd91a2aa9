"""An entity's history, where it has snapshots; without them the journals' contract shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from seedbed_worker.journal.histories import history
from seedbed_worker.journal.port import History, Kind

EVENT_5 = (5, Kind.EVENTS, b"5")
EVENT_4 = (4, Kind.EVENTS, b"4")
STATE_3 = (3, Kind.STATE, b"3")
DELETED_3 = (3, Kind.DELETED, b"")


@pytest.mark.parametrize(
    ("newest_first", "snapshot", "expected"),
    [
        pytest.param([], (4, b"s"), History(4, True, b"s"), id="nothing behind it"),
        pytest.param([EVENT_4], (4, b"s"), History(4, True, b"s"), id="of the newest record"),
        pytest.param(
            [EVENT_5, EVENT_4], (4, b"s"), History(5, True, b"s", (b"5",)), id="in between"
        ),
        pytest.param([EVENT_5], (4, b"s"), History(5, True, b"s", (b"5",)), id="older ones gone"),
        pytest.param([EVENT_4, STATE_3], (2, b"s"), History(4, True, b"3", (b"4",)), id="state"),
        pytest.param([EVENT_4, DELETED_3], (2, b"s"), History(4, True, None, (b"4",)), id="fresh"),
        pytest.param([DELETED_3], (2, b"s"), History(3, False), id="deleted"),
    ],
)
def test_a_snapshot_counts_until_something_newer(
    newest_first: list[tuple[int, int, bytes]], snapshot: tuple[int, bytes], expected: History
) -> None:
    assert history(newest_first, snapshot) == expected


@pytest.mark.parametrize(
    ("last", "snapshot"), [(STATE_3, None), (DELETED_3, None), (EVENT_4, (4, b""))]
)
def test_no_more_is_read_than_needed(
    last: tuple[int, int, bytes], snapshot: tuple[int, bytes] | None
) -> None:
    def records() -> Iterator[tuple[int, int, bytes]]:
        yield EVENT_5
        yield last
        raise AssertionError

    found = history(records(), snapshot)
    assert found is not None
    assert found.events == (b"5",)
