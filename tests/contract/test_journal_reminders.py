"""What every journal does with reminders."""

from __future__ import annotations

from dataclasses import replace

from seedbed_worker.core.reminders import Appointment, Listed
from seedbed_worker.journal.port import Group, Journal, Kind, Record, ReminderChange
from tests.contract.journals import TYPE, Maker, opened, record, taken, written


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
