"""What every journal does, whichever adapter: the port's semantics, one test each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seedbed_worker.core.reminders import Appointment, Listed
from seedbed_worker.journal.memory import Memory, MemoryJournal
from seedbed_worker.journal.port import (
    DROPPED_AT_ONCE,
    Clash,
    Fence,
    Group,
    History,
    Journal,
    Kind,
    Record,
    ReminderChange,
    Snapshot,
    Snapshots,
    Superseded,
    Unavailable,
    Whose,
    WrongJournal,
)
from seedbed_worker.journal.postgres import PostgresJournal
from seedbed_worker.journal.sqlite import SqliteJournal

CLUSTER = "test"
TYPE = "bank.Account"
COUNTS = {TYPE: 4096, "bank.Transfer": 8}

Maker: TypeAlias = Callable[[], Journal]
"""Makes a journal over the one store of a test."""


POSTGRES = pytest.param("postgres", marks=pytest.mark.integration)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    if request.param == "memory":
        memory = Memory()
        return lambda: MemoryJournal(memory)
    if request.param == "sqlite":
        return lambda: SqliteJournal(tmp_path / "journal.db")
    dsn = request.getfixturevalue("journal_dsn")
    return lambda: PostgresJournal(lambda: dsn)


@asynccontextmanager
async def opened(make: Maker, counts: Mapping[str, int] = COUNTS) -> AsyncGenerator[Journal]:
    journal = make()
    try:
        await journal.open(CLUSTER)
        await journal.enter(counts)
        yield journal
    finally:
        await journal.close()


@pytest.fixture
async def journal(make: Maker) -> AsyncGenerator[Journal]:
    async with opened(make) as journal:
        yield journal


def fence(epoch: int) -> Fence:
    return Fence(epoch, uuid4())


async def taken(journal: Journal, shard: int, epoch: int) -> Fence:
    new = fence(epoch)
    await journal.take(TYPE, shard, new)
    return new


def record(key: str, seq: int, data: bytes = b"data", *, request_id: str = "") -> Record:
    return Record(key, seq, Kind.STATE, data, time_ms=1_700_000_000_000, request_id=request_id)


async def written(journal: Journal, shard: int, fence: Fence, *records: Record) -> bool:
    """Whether it was let in."""
    owned = await journal.append([Group(TYPE, shard, fence, records)])
    assert set(owned) <= {(TYPE, shard)}
    return bool(owned)


async def log(journal: Journal, shard: int) -> list[Record]:
    """All records of a shard, in the order of their commits; fails if offsets have gaps."""
    tail = await journal.tail(TYPE, shard, 0, 10_000)
    assert [one.off for one in tail] == list(range(1, len(tail) + 1))
    return [one.record for one in tail]


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


def events(key: str, seq: int, *, keep_until_ms: int = 0) -> Record:
    return Record(key, seq, Kind.EVENTS, b"%d" % seq, 0, keep_until_ms=keep_until_ms)


async def snapshot(
    journal: Journal,
    shard: int,
    fence: Fence,
    key: str,
    seq: int,
    *,
    keep: int | None = None,
    time_ms: int = 0,
) -> None:
    one = Snapshot(key, seq, b"state %d" % seq, time_ms)
    await journal.snapshot([Snapshots(TYPE, shard, fence, [one])], keep=keep)


async def loaded(journal: Journal, shard: int, key: str) -> History | None:
    return (await journal.load(TYPE, shard, [key])).get(key)


async def kept(journal: Journal, shard: int, key: str = "a") -> list[int]:
    """Numbers of its records."""
    tail = await journal.tail(TYPE, shard, 0, 10_000)
    return [one.record.seq for one in tail if one.record.key == key]


async def test_a_history_begins_at_the_newest_snapshot(make: Maker) -> None:
    async with opened(make) as journal:
        own = await taken(journal, 0, 1)
        assert await written(journal, 0, own, *(events("a", seq) for seq in range(1, 5)))
        await snapshot(journal, 0, own, "a", 2)
        assert await loaded(journal, 0, "a") == History(4, True, b"state 2", (b"3", b"4"))
        await snapshot(journal, 0, own, "a", 4)
        await snapshot(journal, 0, own, "a", 3)  # it comes late
    async with opened(make) as again:
        assert await loaded(again, 0, "a") == History(4, True, b"state 4", ())
        assert await kept(again, 0) == [1, 2, 3, 4]


async def test_what_comes_after_a_snapshot_counts_more(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own, *(events("a", seq) for seq in range(1, 3)))
    await snapshot(journal, 0, own, "a", 2)
    assert await written(journal, 0, own, Record("a", 3, Kind.DELETED, b"", 1))
    assert await loaded(journal, 0, "a") == History(3, exists=False)
    assert await written(journal, 0, own, events("a", 4))
    assert await loaded(journal, 0, "a") == History(4, True, None, (b"4",))
    assert await written(journal, 0, own, record("a", 5))
    assert await loaded(journal, 0, "a") == History(5, True, b"data")


async def test_snapshots_are_of_one_entity_of_one_shard(journal: Journal) -> None:
    places = [(shard, key) for shard in (0, 1) for key in ("a", "b")]
    fences = [await taken(journal, shard, 1) for shard in (0, 1)]
    for shard, key in places:
        assert await written(journal, shard, fences[shard], events(key, 1), events(key, 2))
    groups = [
        Snapshots(
            TYPE, shard, own, [Snapshot(key, 1, b"%d%s" % (shard, key.encode()), 0) for key in "ab"]
        )
        for shard, own in enumerate(fences)
    ]
    await journal.snapshot(groups, keep=0)
    for shard, key in places:
        state = b"%d%s" % (shard, key.encode())
        assert await loaded(journal, shard, key) == History(2, True, state, (b"2",))
        assert await kept(journal, shard, key) == [2]


@pytest.mark.parametrize("later", [1, 2], ids=["under the same epoch", "under a higher one"])
async def test_a_snapshot_under_another_fence_is_left_out(make: Maker, later: int) -> None:
    async with opened(make) as old, opened(make) as new:
        stale, own = await taken(old, 0, 1), await taken(old, 1, 1)
        for shard, fence_ in enumerate((stale, own)):
            assert await written(old, shard, fence_, events("a", 1))
        await taken(new, 0, later)
        one = Snapshot("a", 1, b"state", 0)
        groups = [Snapshots(TYPE, shard, f, [one]) for shard, f in enumerate((stale, own))]
        await old.snapshot(groups, keep=0)
        assert await loaded(new, 0, "a") == History(1, True, None, (b"1",))
        assert await loaded(new, 1, "a") == History(1, True, b"state")
        assert (await kept(new, 0), await kept(new, 1)) == ([1], [])


async def test_records_behind_a_snapshot_go_as_many_as_are_not_kept(make: Maker) -> None:
    async with opened(make) as journal:
        own = await taken(journal, 0, 1)
        both = [events(key, seq) for seq in range(1, 8) for key in ("a", "b")]
        assert await written(journal, 0, own, *both)
        await snapshot(journal, 0, own, "a", 6, keep=2)
        assert await kept(journal, 0) == [5, 6, 7]
        assert len(await kept(journal, 0, "b")) == 7
        assert await loaded(journal, 0, "a") == History(7, True, b"state 6", (b"7",))
        await snapshot(journal, 0, own, "a", 7, keep=100)
        assert await kept(journal, 0) == [5, 6, 7]
        await snapshot(journal, 0, own, "a", 7, keep=0)
        assert await kept(journal, 0) == []
    async with opened(make) as again:
        assert await loaded(again, 0, "a") == History(7, True, b"state 7")
        own = await taken(again, 0, 2)
        assert await written(again, 0, own, events("a", 8))
        tail = await again.tail(TYPE, 0, 13, 10)
        assert [(one.off, one.record.seq) for one in tail] == [(14, 7), (15, 8)]
        assert len(await again.tail(TYPE, 0, 0, 3)) == 3, "holes do not count"


async def test_a_record_whose_call_may_be_repeated_stays(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    until = [100, 300, 200, 0]
    records = [events("a", seq, keep_until_ms=ms) for seq, ms in enumerate(until, 1)]
    assert await written(journal, 0, own, *records)
    await snapshot(journal, 0, own, "a", 4, keep=0, time_ms=200)
    assert await kept(journal, 0) == [2]
    assert await loaded(journal, 0, "a") == History(4, True, b"state 4")
    await snapshot(journal, 0, own, "a", 4, keep=0, time_ms=300)
    assert await kept(journal, 0) == []


async def test_records_that_have_piled_up_go_in_pieces(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    last = DROPPED_AT_ONCE + 5
    assert await written(journal, 0, own, *(events("a", seq) for seq in range(1, last + 1)))
    await snapshot(journal, 0, own, "a", last, keep=0)
    assert await kept(journal, 0) == list(range(DROPPED_AT_ONCE + 1, last + 1))
    await snapshot(journal, 0, own, "a", last, keep=0)
    assert await kept(journal, 0) == []


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


def appointed(key: str, seq: int, *changes: ReminderChange) -> Record:
    return replace(record(key, seq), reminders=changes)


def at(due_ms: int, number: int = 1, *, method: str = "ring", name: str = "") -> ReminderChange:
    return ReminderChange(method, name, Appointment(due_ms, 5, 6, number, 7))


async def due(
    journal: Journal, *shards: int, until_ms: int = 2**50, page: int = 100
) -> list[tuple[int, str, str, str, int]]:
    """Shard, key, method, name and time of what is due, read page by page."""
    found: list[Listed] = []
    while True:
        after = found[-1] if found else None
        more = await journal.reminders(TYPE, shards, until_ms, after, page)
        assert len(more) <= page
        found += more
        if len(more) < page:
            break
    for place, one in found:
        assert (place.type, one.every_ms, one.count, one.begun_ms) == (TYPE, 5, 6, 7)
    return [(*one.place[1:], one.appointment.due_ms) for one in found]


async def test_reminders_come_with_the_records_that_set_them(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own, appointed("a", 1, at(30), at(10, name="n")))
    assert await written(journal, 0, own, appointed("b", 1, at(20, method="end")))
    rows = [(0, "a", "ring", "n", 10), (0, "b", "end", "", 20), (0, "a", "ring", "", 30)]
    assert await due(journal, 0) == rows
    assert await due(journal, 0, until_ms=20) == rows[:2]
    assert await due(journal, 0, until_ms=9) == []
    assert await due(journal, 1) == await due(journal) == []


async def test_a_reminder_is_replaced_and_dropped(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own, appointed("a", 1, at(10), at(11, name="n")))
    assert await written(journal, 0, own, appointed("a", 2, at(20, 2)))
    assert await due(journal, 0) == [(0, "a", "ring", "n", 11), (0, "a", "ring", "", 20)]
    (_, (_, found)) = await journal.reminders(TYPE, [0], 20, None, 10)
    assert found == Appointment(20, 5, 6, 2, 7)
    assert await written(journal, 0, own, appointed("a", 3, ReminderChange("ring", "", None)))
    assert await due(journal, 0) == [(0, "a", "ring", "n", 11)]
    assert await written(journal, 0, own, appointed("a", 4, ReminderChange("other", "", None)))
    assert await due(journal, 0) == [(0, "a", "ring", "n", 11)]


async def test_of_several_records_in_one_group_the_last_counts(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    drop = ReminderChange("ring", "", None)
    assert await written(
        journal,
        0,
        own,
        *(appointed("a", 1, at(10)), appointed("a", 2, drop)),
        *(appointed("b", 1, at(10)), appointed("b", 2, at(20, 2))),
        *(appointed("c", 1, at(10)), appointed("c", 2, drop), appointed("c", 3, at(30, 3))),
    )
    assert await due(journal, 0) == [(0, "b", "ring", "", 20), (0, "c", "ring", "", 30)]


async def test_a_deletion_drops_all_reminders_of_its_entity(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    gone = Record("a", 2, Kind.DELETED, b"", 1)
    assert await written(
        journal,
        0,
        own,
        appointed("a", 1, at(10), at(11, name="n"), at(12, name="m")),
        appointed("b", 1, at(12)),
    )
    assert await written(journal, 0, own, replace(gone, reminders=(at(20, 2), at(21, name="n"))))
    rows = [(0, "b", "ring", "", 12), (0, "a", "ring", "", 20), (0, "a", "ring", "n", 21)]
    assert await due(journal, 0) == rows
    assert await written(journal, 0, own, appointed("a", 3, at(5, name="x")), replace(gone, seq=4))
    assert await due(journal, 0) == rows[:1]


async def test_who_may_not_write_changes_no_reminder(make: Maker) -> None:
    async with opened(make) as old, opened(make) as new:
        earlier, other = await taken(old, 0, 1), await taken(old, 1, 1)
        assert await written(old, 0, earlier, appointed("a", 1, at(10)))
        await taken(new, 0, 2)
        late = Group(TYPE, 0, earlier, [appointed("a", 2, ReminderChange("ring", "", None))])
        groups = [late, Group(TYPE, 1, other, [appointed("z", 1, at(11))])]
        assert set(await old.append(groups)) == {(TYPE, 1)}
        assert not await written(old, 0, earlier, Record("a", 2, Kind.DELETED, b"", 1))
        assert not await written(old, 0, earlier, appointed("b", 1, at(9)))
        assert await due(new, 0, 1) == [(0, "a", "ring", "", 10), (1, "z", "ring", "", 11)]


async def test_reminders_of_many_shards_are_read_page_by_page(journal: Journal) -> None:
    rows: list[tuple[int, str, str, str, int]] = []
    for shard in range(4):
        own = await taken(journal, shard, 1)
        places = [(key, name) for key in ("a", "A", "ä", "a ") for name in ("", "n", "\N{BANK}")]
        for seq, (key, name) in enumerate(places):
            due_ms = 10 + seq % 4
            change = at(due_ms, name=name)
            assert await written(journal, shard, own, appointed(key, seq % 3 + 1, change))
            rows.append((shard, key, "ring", name, due_ms))
    rows.sort(key=lambda row: (row[-1], *row[:-1]))
    for page in (1, 5, 48, 100):
        assert await due(journal, 0, 1, 2, 3, page=page) == rows
        assert await due(journal, 1, 3, page=page) == [row for row in rows if row[0] in (1, 3)]


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


async def test_a_fence_holds_until_the_next_one(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await journal.holds(TYPE, 0, own)
    assert not await journal.holds(TYPE, 1, own)
    again = await taken(journal, 0, 1)
    assert not await journal.holds(TYPE, 0, own)
    assert await journal.holds(TYPE, 0, again)
    await taken(journal, 0, 2)
    assert not await journal.holds(TYPE, 0, again)


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


@pytest.mark.parametrize("later", [1, 2], ids=["under the same epoch", "under a higher one"])
async def test_a_take_shuts_the_earlier_writer_out(make: Maker, later: int) -> None:
    async with opened(make) as old, opened(make) as new:
        earlier = await taken(old, 0, 1)
        assert await written(old, 0, earlier, record("a", 1))
        own = await taken(new, 0, later)
        assert not await written(old, 0, earlier, record("a", 2, b"late"))
        assert await log(new, 0) == [record("a", 1)]
        assert await written(new, 0, own, record("a", 2))
        assert not await written(old, 0, earlier, record("b", 1))
        assert await log(old, 0) == [record("a", 1), record("a", 2)]


async def test_a_take_under_a_lower_epoch_is_refused(make: Maker) -> None:
    async with opened(make) as old, opened(make) as new:
        own = await taken(new, 0, 7)
        with pytest.raises(Superseded) as refusal:
            await taken(old, 0, 6)
        assert refusal.value.epoch == 7
        assert f"shard 0 of {TYPE}" in str(refusal.value)
        assert await written(new, 0, own, record("a", 1))


async def test_a_take_may_be_repeated(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own, record("a", 1))
    await journal.take(TYPE, 0, own)
    assert await written(journal, 0, own, record("a", 2))
    assert len(await log(journal, 0)) == 2


async def test_nobody_writes_what_nobody_took(journal: Journal) -> None:
    assert not await written(journal, 0, fence(1), record("a", 1))
    own = await taken(journal, 0, 1)
    assert not await written(journal, 0, Fence(2, own.writer), record("a", 1))
    assert not await written(journal, 0, fence(1), record("a", 1))
    assert not await written(journal, 1, own, record("a", 1))
    assert await log(journal, 0) == await log(journal, 1) == []


async def test_a_fenced_shard_drops_out_of_a_group_commit(make: Maker) -> None:
    async with opened(make) as old, opened(make) as new:
        fences = [await taken(old, shard, 1) for shard in range(4)]
        for shard in (1, 2):
            await taken(new, shard, 2)
        groups = [Group(TYPE, shard, fences[shard], [record("a", 1)]) for shard in (2, 0, 3, 1)]
        assert set(await old.append(groups)) == {(TYPE, 0), (TYPE, 3)}
        assert [len(await log(new, shard)) for shard in range(4)] == [1, 0, 0, 1]


async def test_an_append_of_no_records_asks_for_the_fence(journal: Journal) -> None:
    own = await taken(journal, 0, 1)
    assert await written(journal, 0, own)
    assert not await written(journal, 0, fence(1))
    assert not await journal.append([])
    assert await log(journal, 0) == []


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


async def whose(make: Maker, cluster: str = CLUSTER) -> Whose:
    journal = make()
    try:
        return await journal.open(cluster)
    finally:
        await journal.close()


async def test_a_journal_is_one_clusters(make: Maker) -> None:
    first = await whose(make)
    assert first.cluster == CLUSTER
    assert not first.cluster_uid
    assert len({first.journal_id, first.timeline, ""}) == 3
    with pytest.raises(WrongJournal, match=r"'test'.*'staging'"):
        await whose(make, "staging")
    assert await whose(make) == first


async def test_a_journal_is_one_incarnations_of_a_cluster(make: Maker) -> None:
    async with opened(make) as journal, opened(make) as other:
        await journal.bind("uid-1")
        await other.bind("uid-1")
        with pytest.raises(WrongJournal, match=r"uid-1.*uid-2.*seedbed adopt"):
            await other.bind("uid-2")
    assert (await whose(make)).cluster_uid == "uid-1"


async def test_a_journal_is_bound_anew_whoever_had_it(make: Maker) -> None:
    async with opened(make) as journal, opened(make) as other:
        own = await taken(journal, 0, 1)
        await journal.bind("uid-1")
        await other.rebind("uid-2")
        with pytest.raises(WrongJournal, match=r"uid-2.*uid-1"):
            await journal.bind("uid-1")
        await journal.bind("uid-2")
        assert await written(journal, 0, own, record("a", 1)), "no fence has changed"


async def test_a_probe_changes_nothing_and_says_whose_the_journal_is_now(make: Maker) -> None:
    async with opened(make) as journal, opened(make) as other:
        own = await taken(journal, 0, 1)
        assert await written(journal, 0, own, record("a", 1))
        before = await journal.probe()
        await other.rebind("uid-2")
        assert await journal.probe() == before._replace(cluster_uid="uid-2")
        assert await written(journal, 0, own, record("a", 2))
        assert await log(journal, 0) == [record("a", 1), record("a", 2)]


async def test_a_types_number_of_shards_stays(make: Maker) -> None:
    async with opened(make) as journal:
        own = await taken(journal, 0, 1)
        assert await written(journal, 0, own, record("a", 1))
        with pytest.raises(WrongJournal, match=rf"{TYPE} has 4096 shards.*\b512\b"):
            await journal.enter({"bank.New": 4, TYPE: 512})
        await journal.enter({"bank.New": 8})
        await journal.take("bank.New", 0, fence(1))
        assert await written(journal, 0, own, record("a", 2))
    async with opened(make, {TYPE: 4096}) as again:
        with pytest.raises(WrongJournal, match=r"bank\.New has 8 shards"):
            await again.enter({"bank.New": 4})
