"""Groups of records: their order, their bounds, and that each has exactly one end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seedbed_worker.core.commit_groups import CommitGroups

SHARDS = st.sampled_from("abc")


@dataclass(frozen=True)
class One:
    number: int
    size: int = 1


def groups(*, max_records: int = 100, max_bytes: int = 1_000) -> CommitGroups[str, One]:
    return CommitGroups(max_records=max_records, max_bytes=max_bytes)


def test_what_comes_while_a_group_is_written_goes_into_the_next_one() -> None:
    g = groups()
    g.add("a", One(1))
    assert g.next() == {"a": [One(1)]}
    g.add("a", One(2))
    g.add("b", One(3))
    with pytest.raises(ValueError, match="is being written"):
        g.next()
    assert g.written({"a"}).kept == [One(1)]
    assert g.next() == {"a": [One(2)], "b": [One(3)]}


def test_a_group_is_bounded_by_records_and_bytes_and_one_record_always_goes() -> None:
    g = groups(max_records=2, max_bytes=10)
    for number in range(3):
        g.add("a", One(number))
    assert g.next() == {"a": [One(0), One(1)]}
    g.written({"a"})
    g.add("a", One(3, size=11))
    g.add("b", One(4, size=11))
    assert g.next() == {"a": [One(2)]}
    g.written({"a"})
    first = g.next()
    g.written(first)
    assert [first, g.next()] == [{"b": [One(4, size=11)]}, {"a": [One(3, size=11)]}]


def test_a_shard_that_was_taken_loses_what_waits_too() -> None:
    g = groups()
    g.add("a", One(1))
    g.add("b", One(2))
    g.next()
    g.add("a", One(3))
    ended = g.written({"b"})
    assert (ended.kept, ended.fenced, ended.refused) == ([One(2)], ["a"], [One(1), One(3)])
    assert g.next() == {}


def test_what_waits_behind_a_record_that_failed_fails_with_it() -> None:
    g = groups()
    g.add("a", One(1))
    g.next()
    g.add("a", One(2))
    g.add("b", One(3))
    assert g.failed() == [One(1), One(2)]
    assert g.next() == {"b": [One(3)]}


def test_nothing_of_a_shard_in_doubt_is_written_before_it_is_settled() -> None:
    g = groups()
    g.add("a", One(1))
    g.next()
    assert g.doubted() == {"a": [One(1)]}
    g.add("a", One(2))
    g.add("b", One(3))
    assert g.next() == {"b": [One(3)]}
    g.written({"b"})
    g.settled("a")
    assert g.next() == {"a": [One(2)]}


def test_what_waits_behind_a_doubt_can_be_taken_away() -> None:
    g = groups()
    g.add("a", One(1))
    g.next()
    g.doubted()
    g.add("a", One(2))
    g.add("b", One(3))
    assert g.behind("a") == [One(2)]
    g.add("a", One(4))
    assert g.next() == {"b": [One(3)]}, "it is in doubt still"
    g.written({"b"})
    g.settled("a")
    assert g.next() == {"a": [One(4)]}


class Groups(RuleBasedStateMachine):
    """Any order of events: the records of a shard are written in order, and each ends once."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = groups(max_records=3, max_bytes=6)
        self.number = 0
        self.under_way: dict[str, list[One]] = {}
        self.in_doubt: dict[str, list[One]] = {}
        self.came: dict[str, list[int]] = defaultdict(list)
        self.ended: dict[str, list[int]] = defaultdict(list)

    def _end(self, items: Iterable[One]) -> None:
        for item in items:
            shard = next(shard for shard, came in self.came.items() if item.number in came)
            self.ended[shard].append(item.number)

    @rule(shard=SHARDS, size=st.integers(1, 7))
    def add(self, shard: str, size: int) -> None:
        self.number += 1
        self.came[shard].append(self.number)
        self.groups.add(shard, One(self.number, size))

    @precondition(lambda self: not self.under_way)
    @rule()
    def begin(self) -> None:
        self.under_way = self.groups.next()
        assert not self.under_way.keys() & self.in_doubt.keys()
        items = [item for group in self.under_way.values() for item in group]
        assert len(items) <= 3
        assert len(items) <= 1 or sum(item.size for item in items) <= 6

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        survivors = data.draw(st.sets(st.sampled_from(sorted(self.under_way))))
        ended = self.groups.written(survivors)
        assert set(ended.fenced) == self.under_way.keys() - survivors
        self._end(ended.kept)
        self._end(ended.refused)
        self.under_way = {}

    @precondition(lambda self: self.under_way)
    @rule()
    def fail(self) -> None:
        self._end(self.groups.failed())
        self.under_way = {}

    @precondition(lambda self: self.under_way)
    @rule()
    def doubt(self) -> None:
        self.in_doubt |= self.groups.doubted()
        self.under_way = {}

    @precondition(lambda self: self.in_doubt)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        shard = data.draw(st.sampled_from(sorted(self.in_doubt)))
        self._end(self.in_doubt.pop(shard))
        self.groups.settled(shard)

    @invariant()
    def each_ends_once_and_in_order(self) -> None:
        for shard, ended in self.ended.items():
            assert ended == self.came[shard][: len(ended)]

    def teardown(self) -> None:
        self._end(self.groups.failed())
        for shard in list(self.in_doubt):
            self._end(self.in_doubt.pop(shard))
            self.groups.settled(shard)
        while groups := self.groups.next():
            self._end([item for group in groups.values() for item in group])
            self.groups.written(groups)
        assert len(self.groups) == 0
        assert self.ended == self.came


TestGroups = Groups.TestCase
