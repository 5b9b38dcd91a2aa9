"""What every journal does, whichever adapter: how records are kept, and entities read from them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seedbed_worker.journal.port import Clash, Group, History, Journal, Kind, Record, Unavailable
from tests.contract.journals import TYPE, Maker, fence, log, opened, record, taken, written


@dataclass
class Expected:
    """What an entity's records come to, by applying them one after another."""

    seq: int = 0
    exists: bool = False
    state: bytes | None = None
    events: list[bytes] = field(default_factory=list[bytes])

    def apply(self, one: Record) -> None:
        self.seq = one.seq
        if one.kind is Kind.NOTE:
            return
        self.exists = one.kind is not Kind.DELETED
        if one.kind is Kind.EVENTS:
            self.events.append(one.data)
        else:
            self.state = one.data if one.kind is Kind.STATE else None
            self.events.clear()

    def history(self) -> History:
        return History(self.seq, self.exists, self.state, tuple(self.events))


@dataclass(frozen=True)
class Drawn:
    """A record to be, without its number."""

    key: str
    kind: Kind
    data: bytes
    request: bool
    outcome: bytes
    time_ms: int
    last_of_group: bool

    def record(self, seq: int) -> Record:
        return Record(
            self.key,
            seq,
            self.kind,
            b"" if self.kind in (Kind.DELETED, Kind.NOTE) else self.data,
            self.time_ms,
            f"request {self.key} {seq}" if self.request else "",
            self.outcome,
            self.time_ms + 300_000,
        )


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)

DRAWN = st.builds(
    Drawn,
    key=st.sampled_from(["a", "A", "ä", "a ", "0x00", "\N{BANK}"]) | TEXTS,
    kind=st.sampled_from(Kind),
    data=st.binary(max_size=40),
    request=st.booleans(),
    outcome=st.binary(max_size=10),
    time_ms=st.integers(0, 2**45),
    last_of_group=st.booleans(),
)


@given(drawn=st.lists(DRAWN, max_size=30))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_was_appended_is_there(make: Maker, drawn: Sequence[Drawn]) -> None:
    expected: dict[str, Expected] = {}
    records: list[Record] = []
    async with opened(make) as journal:
        shard = await fresh_shard(journal)
        own = await taken(journal, shard, 1)
        group: list[Record] = []
        for one in drawn:
            entity = expected.setdefault(one.key, Expected())
            group.append(one.record(entity.seq + 1))
            entity.apply(group[-1])
            if one.last_of_group:
                assert await written(journal, shard, own, *group)
                records += group
                group = []
        assert await written(journal, shard, own, *group)
        records += group
        await check(journal, shard, records, expected)
    async with opened(make) as again:
        await check(again, shard, records, expected)


async def fresh_shard(journal: Journal) -> int:
    """One that no earlier example has used."""
    for shard in count():
        if not await journal.tail(TYPE, shard, 0, 1):
            return shard
    raise AssertionError


async def check(
    journal: Journal, shard: int, records: list[Record], expected: Mapping[str, Expected]
) -> None:
    assert await log(journal, shard) == records
    histories = await journal.load(TYPE, shard, [*expected, "nobody"])
    assert histories == {key: entity.history() for key, entity in expected.items()}


async def test_a_group_keeps_what_belongs_to_no_state(journal: Journal) -> None:
    own = await taken(journal, 3, 1)
    full = Record("a", 1, Kind.EVENTS, b"event", 5, "request", b"outcome", 6)
    bare = Record("a", 2, Kind.DELETED, b"", 7)
    assert await written(journal, 3, own, full, bare)
    first, second = await journal.tail(TYPE, 3, 0, 10)
    assert (first.off, first.epoch, first.record) == (1, 1, full)
    assert (second.off, second.epoch, second.record) == (2, 1, bare)
    assert first.record.kind is Kind.EVENTS


async def test_a_tail_begins_behind_an_offset_and_is_no_longer_than_asked(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own, *(record("a", seq) for seq in range(1, 8)))
    assert [one.off for one in await journal.tail(TYPE, 0, 0, 3)] == [1, 2, 3]
    assert [one.off for one in await journal.tail(TYPE, 0, 3, 3)] == [4, 5, 6]
    assert [one.off for one in await journal.tail(TYPE, 0, 6, 3)] == [7]
    assert not await journal.tail(TYPE, 0, 7, 3)
    assert not await journal.tail(TYPE, 1, 0, 3)


async def test_types_and_shards_have_logs_of_their_own(journal: Journal) -> None:
    places = [(TYPE, 0), (TYPE, 1), ("bank.Transfer", 0)]
    groups: list[Group] = []
    for number, (type_, shard) in enumerate(places, start=1):
        own = fence(number)
        await journal.take(type_, shard, own)
        groups.append(Group(type_, shard, own, [record("a", 1, b"%d" % number)]))
    assert set(await journal.append(groups)) == set(places)
    for number, (type_, shard) in enumerate(places, start=1):
        assert await journal.load(type_, shard, ["a"]) == {"a": History(1, True, b"%d" % number)}
        (one,) = await journal.tail(type_, shard, 0, 10)
        assert (one.off, one.epoch) == (1, number)


async def test_a_deletion_keeps_the_number(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own, record("a", 1), Record("a", 2, Kind.DELETED, b"", 1))
    assert await journal.load(TYPE, 0, ["a"]) == {"a": History(2, exists=False)}
    assert await written(journal, 0, own, Record("a", 3, Kind.EVENTS, b"new", 1))
    assert await journal.load(TYPE, 0, ["a"]) == {"a": History(3, True, None, (b"new",))}


async def test_a_number_is_used_once(journal: Journal) -> None:
    own, other = await taken(journal, 0, 1), await taken(journal, 1, 1)
    assert await written(journal, 0, own, record("a", 1))
    with pytest.raises(Clash):
        await journal.append(
            [
                Group(TYPE, 1, other, [record("a", 1)]),
                Group(TYPE, 0, own, [record("b", 1), record("a", 1, b"other")]),
            ]
        )
    with pytest.raises(Clash):
        await written(journal, 0, own, record("c", 1), record("c", 1))
    assert await log(journal, 0) == [record("a", 1)]
    assert await log(journal, 1) == []
    assert await written(journal, 0, own, record("b", 1))
    assert await log(journal, 0) == [record("a", 1), record("b", 1)]


async def test_what_came_of_calls_is_found_by_their_ids(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    records = [
        replace(record("a", seq, request_id=name), outcome=bytes([seq]), keep_until_ms=seq)
        for seq, name in enumerate(("x", "", "y", "x"), start=1)
    ]
    assert await written(journal, 0, own, *records, record("b", 1, request_id="z"))
    first, _, third, fourth = (one.kept() for one in records)
    assert list(await journal.outcomes(TYPE, 0, "a", 10)) == [fourth, third, first]
    assert list(await journal.outcomes(TYPE, 0, "a", 2)) == [fourth, third]
    assert await journal.outcome(TYPE, 0, "a", "y") == third
    assert await journal.outcome(TYPE, 0, "a", "x") == fourth, "the latest of a name"
    assert await journal.outcome(TYPE, 0, "a", "z") is None


async def test_appends_of_several_journals_make_one_log(make: Maker) -> None:
    async def writes(journal: Journal, shard: int, name: str) -> None:
        own = await taken(journal, shard, 1)
        for seq in range(1, 31):
            assert await written(journal, shard, own, record(name, seq), record(f"{name}'", seq))

    async with opened(make) as one, opened(make) as other:
        async with asyncio.TaskGroup() as group:
            for shard, journal in enumerate((one, other, one, other)):
                group.create_task(writes(journal, shard, f"entity {shard}"))
        for shard in range(4):
            assert len(await log(one, shard)) == 60
            (history,) = (await other.load(TYPE, shard, [f"entity {shard}"])).values()
            assert history.seq == 30


async def test_a_closed_journal_is_unavailable_and_another_goes_on(make: Maker) -> None:
    async with opened(make) as journal:
        own = await taken(journal, 0, 1)
        assert await written(journal, 0, own, record("a", 1))
    await journal.close()
    with pytest.raises(Unavailable):
        await written(journal, 0, own, record("a", 2))
    with pytest.raises(Unavailable):
        await journal.load(TYPE, 0, ["a"])
    async with opened(make) as again:
        assert await written(again, 0, own, record("a", 2))
        assert await log(again, 0) == [record("a", 1), record("a", 2)]


async def test_a_journal_that_was_never_opened_can_be_closed(make: Maker) -> None:
    await make().close()
