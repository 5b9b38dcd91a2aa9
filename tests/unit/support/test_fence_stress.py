"""What the fencing stress finds in logs that are wrong."""

from __future__ import annotations

from seedbed_worker.journal.port import Kind, Record, Written
from tests.support.fence_stress import Acknowledged, Token, Took, Witnessed, judge

OLD, OLD_AGAIN, NEW = Token(1, 0), Token(1, 1), Token(2, 0)


def log(*places: tuple[int, str, int, Token]) -> list[Written]:
    return [
        Written(off, token.epoch, Record(key, seq, Kind.STATE, b"%d %d" % token, 0))
        for off, key, seq, token in places
    ]


GOOD = log((1, "a", 1, OLD), (2, "b", 1, OLD_AGAIN), (3, "a", 2, NEW))


def found(*logs: list[Written], took: Took, acknowledged: Acknowledged) -> tuple[int, int, int]:
    verdict = judge(logs, Witnessed([took], [acknowledged]))
    return verdict.late, verdict.lost, verdict.gaps


def test_a_log_as_it_should_be_has_nothing() -> None:
    acknowledged = Acknowledged(1, "b", 1, OLD_AGAIN)
    assert found([], GOOD, took=Took(1, NEW, 2), acknowledged=acknowledged) == (0, 0, 0)
    assert found([], GOOD, took=Took(1, OLD_AGAIN, 1), acknowledged=acknowledged) == (0, 0, 0)


def test_what_is_older_and_behind_a_recovery_is_late() -> None:
    acknowledged = Acknowledged(0, "a", 2, NEW)
    assert found(GOOD, took=Took(0, NEW, 1), acknowledged=acknowledged) == (1, 0, 0)
    assert found(GOOD, took=Took(0, OLD_AGAIN, 0), acknowledged=acknowledged) == (1, 0, 0)


def test_an_acknowledged_record_that_is_not_there_is_lost() -> None:
    took = Took(0, NEW, 3)
    for acknowledged in (
        Acknowledged(0, "b", 2, NEW),
        Acknowledged(0, "a", 2, OLD),
        Acknowledged(1, "a", 2, NEW),
    ):
        assert found(GOOD, [], took=took, acknowledged=acknowledged) == (0, 1, 0)


def test_offsets_and_numbers_have_no_gaps() -> None:
    took, acknowledged = Took(0, OLD, 0), Acknowledged(0, "a", 1, OLD)
    offset = log((1, "a", 1, OLD), (3, "a", 2, OLD))
    assert found(offset, took=took, acknowledged=acknowledged) == (0, 0, 1)
    number = log((1, "a", 1, OLD), (2, "a", 3, OLD))
    assert found(number, took=took, acknowledged=acknowledged) == (0, 0, 1)
