"""Which reminders fire when, by the pure core."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from seedbed_worker.core.reminders import (
    FIRST_PAUSE_MS,
    LAST_PAUSE_MS,
    Agenda,
    Appointment,
    Listed,
    Place,
    Times,
    following,
    pause_ms,
    times,
)


def place(key: str = "a", name: str = "", *, shard: int = 0) -> Place:
    return Place("t", shard, key, "ring", name)


def at(due_ms: int, number: int = 1, every_ms: int = 0) -> Appointment:
    return Appointment(due_ms, every_ms, 1, number)


def fired(agenda: Agenda, now_ms: int) -> list[str]:
    return [one.place.key + one.place.name for one in agenda.begin(now_ms)]


@given(
    due_ms=st.integers(0, 10**6),
    every_ms=st.integers(1, 10**5),
    lates_ms=st.lists(st.integers(0, 10**6), max_size=20),
)
def test_a_repeating_one_keeps_to_its_times_and_counts_those_it_missed(
    due_ms: int, every_ms: int, lates_ms: list[int]
) -> None:
    appointment: Appointment | None = Appointment(due_ms, every_ms, 1, 1)
    for number, late_ms in enumerate(lates_ms, start=2):
        assert appointment is not None
        now_ms = appointment.due_ms + late_ms
        done = times(appointment, now_ms)
        assert done.due_ms <= now_ms < done.due_ms + every_ms, "the newest of its times"
        assert done.due_ms == due_ms + (done.count - 1) * every_ms, "one count for each of them"
        appointment = following(appointment, done, number)
        assert appointment == Appointment(done.due_ms + every_ms, every_ms, done.count + 1, number)


def test_before_its_time_and_after_it_one_that_is_once_is_the_first_and_the_last() -> None:
    once = at(100)
    assert times(once, 50) == times(once, 10**9) == Times(100, 1)
    assert following(once, Times(100, 1), 2) is None


def test_pauses_double_up_to_five_minutes_and_jitter_shortens_them() -> None:
    longest = [pause_ms(failures, 0.0) for failures in range(1, 12)]
    assert longest[:4] == [FIRST_PAUSE_MS, 2000, 4000, 8000]
    assert longest[-1] == LAST_PAUSE_MS == pause_ms(10**6, 0.0)
    assert pause_ms(3, 1.0) == 2000
    assert 2000 < pause_ms(3, 0.5) < 4000


def test_what_is_due_fires_once_in_the_order_of_time() -> None:
    agenda = Agenda(10)
    for key, due_ms in (("c", 30), ("a", 10), ("b", 20), ("d", 40)):
        agenda.put(place(key), at(due_ms))
    assert agenda.next_ms() == 10
    assert fired(agenda, 9) == []
    assert fired(agenda, 30) == ["a", "b", "c"]
    assert fired(agenda, 30) == []
    assert agenda.next_ms() == 40


def test_so_many_are_under_way_at_once() -> None:
    agenda = Agenda(2)
    for key in "abc":
        agenda.put(place(key), at(10))
    assert fired(agenda, 10) == ["a", "b"]
    assert agenda.next_ms() is None
    agenda.ended(place("a"))
    assert fired(agenda, 10) == ["c"]


def test_of_one_entity_one_is_under_way_and_the_others_take_no_room() -> None:
    agenda = Agenda(2)
    for name in "123":
        agenda.put(place("a", name), at(10))
    agenda.put(place("b"), at(11))
    assert fired(agenda, 11) == ["a1", "b"]
    agenda.ended(place("a", "1"))
    assert fired(agenda, 11) == ["a2"]
    agenda.ended(place("b"))
    assert fired(agenda, 11) == []
    agenda.ended(place("a", "2"))
    assert fired(agenda, 11) == ["a3"]


def test_one_that_failed_comes_again_if_it_still_stands() -> None:
    agenda = Agenda(2)
    agenda.put(place(), at(10))
    (first,) = agenda.begin(10)
    agenda.ended(first.place)
    assert agenda.again(first, 1000, failed=True) == 1
    assert agenda.failing("t") == 1
    assert fired(agenda, 999) == []
    (again,) = agenda.begin(1000)
    assert again == first
    agenda.put(place(), at(20, number=2))
    agenda.ended(first.place)
    assert agenda.again(again, 5000, failed=True) == 0, "another has taken its place"
    assert agenda.failing("t") == 0
    assert fired(agenda, 1000) == ["a"]
    agenda.drop(place())
    agenda.ended(place())
    assert fired(agenda, 10**9) == []


def test_news_of_the_same_appointment_change_nothing_of_its_pause() -> None:
    agenda = Agenda(2)
    agenda.put(place(), at(10))
    (first,) = agenda.begin(10)
    agenda.ended(place())
    agenda.again(first, 1000, failed=True)
    begun = Appointment(10, 0, 1, 1, begun_ms=10)
    agenda.put(place(), begun)
    assert fired(agenda, 999) == []
    assert agenda.begin(1000) == [Listed(place(), begun)]


def test_of_a_shard_that_is_lost_nothing_fires() -> None:
    agenda = Agenda(5)
    for shard in range(3):
        agenda.put(place(str(shard), shard=shard), at(10, number=1 - 2 * (shard == 1)))
    assert agenda.stored == 2
    agenda.drop_shards([("t", 0), ("other", 2)])
    assert fired(agenda, 10) == ["1", "2"]
    assert agenda.stored == 1


def test_one_that_is_under_way_when_its_shard_is_lost_stands_until_it_has_ended() -> None:
    agenda = Agenda(5)
    agenda.put(place(), at(10))
    (listed,) = agenda.begin(10)
    agenda.drop_shards([("t", 0)])
    assert agenda.get(place()) == at(10)
    agenda.ended(place())
    assert agenda.again(listed, 20, failed=True) == 0
    assert agenda.get(place()) is None
    agenda.put(place(), at(10))
    (listed,) = agenda.begin(10)
    agenda.drop_shards([("t", 0)])
    agenda.put(place(), at(10))  # it is ours again, and still stored
    agenda.ended(place())
    assert agenda.again(listed, 20, failed=True) == 1
    assert fired(agenda, 20) == ["a"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "drop", "begin", "end", "fail"]),
            st.integers(0, 5),
            st.integers(0, 9),
        ),
        max_size=120,
    ),
    room=st.integers(1, 3),
)
def test_nothing_that_stands_is_forgotten_and_bounds_hold(
    steps: list[tuple[str, int, int]], room: int
) -> None:
    agenda, now_ms = Agenda(room), 0
    standing: dict[Place, int] = {}
    under_way: dict[Place, Listed] = {}
    numbers = 0
    for step, which, ms in steps:
        now_ms += ms
        one = place("abc"[which % 3], "12"[which // 3])
        if step == "put":
            numbers += 1
            standing[one] = numbers
            agenda.put(one, at(now_ms + ms, numbers))
        elif step == "drop":
            standing.pop(one, None)
            agenda.drop(one)
        elif step == "begin":
            for listed in agenda.begin(now_ms):
                assert standing[listed.place] == listed.appointment.number
                assert listed.place not in under_way
                under_way[listed.place] = listed
            assert len(under_way) <= room
            assert max(Counter(begun.key for begun in under_way).values(), default=0) <= 1
        elif under_way:
            ended, listed = under_way.popitem()
            agenda.ended(ended)
            if step == "fail":
                agenda.again(listed, now_ms + ms, failed=True)
            elif standing.get(ended) == listed.appointment.number:
                del standing[ended]
                agenda.drop(ended)
    fired = set[Place]()
    for listed in under_way.values():
        agenda.ended(listed.place)
        agenda.again(listed, now_ms, failed=True)
    while begun := agenda.begin(now_ms + 100):
        for listed in begun:
            fired.add(listed.place)
            agenda.ended(listed.place)
            agenda.drop(listed.place)
    assert fired == standing.keys()
