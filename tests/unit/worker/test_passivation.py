"""Who leaves memory: by last use, and never who is in use."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from seedbed_worker.core.passivation import BUSY, Ages

TIMEOUT = 1000


@dataclass
class One:
    name: str
    seedbed_since: int


class Memory:
    """Entities and their ages."""

    def __init__(self) -> None:
        self.live: dict[str, One] = {}
        self.ages = Ages[One](self.live, TIMEOUT)

    def add(self, name: str, now: int) -> None:
        self.live[name] = One(name, now)
        self.ages.add(name, now)

    def due(self, now: int) -> list[str]:
        """Take out what is due, and forget it."""
        names = [one.name for one in self.ages.due(now, 1000)]
        for name in names:
            del self.live[name]
        return names

    def oldest(self, now: int) -> str | None:
        one = self.ages.oldest(now)
        return one.name if one else None


def test_nothing_is_due_before_its_time_out() -> None:
    memory = Memory()
    memory.add("a", 0)
    assert memory.due(TIMEOUT - 1) == []
    assert memory.due(TIMEOUT) == ["a"]


def test_use_puts_it_off() -> None:
    memory = Memory()
    memory.add("a", 0)
    memory.add("b", 0)
    memory.live["a"].seedbed_since = 500
    assert memory.due(TIMEOUT) == ["b"]
    assert memory.due(1499) == []
    assert memory.due(1500) == ["a"]


def test_what_is_in_use_is_never_due() -> None:
    memory = Memory()
    memory.add("a", 0)
    memory.live["a"].seedbed_since = BUSY
    assert memory.due(10 * TIMEOUT) == []
    assert memory.oldest(10 * TIMEOUT) is None
    memory.live["a"].seedbed_since = 10 * TIMEOUT
    assert memory.due(11 * TIMEOUT) == ["a"]


def test_the_oldest_is_the_least_recently_used() -> None:
    memory = Memory()
    for now, name in enumerate("abc"):
        memory.add(name, now)
    memory.live["a"].seedbed_since = 3
    assert memory.oldest(4) == "b"
    memory.live["b"].seedbed_since = 5
    assert memory.oldest(6) == "c"


def test_at_most_as_many_are_due_as_asked_for() -> None:
    memory = Memory()
    for name in "abc":
        memory.add(name, 0)
    assert len(memory.ages.due(TIMEOUT, 2)) == 2
    assert len(memory.ages.due(TIMEOUT, 2)) == 1


def test_what_came_back_is_due_once() -> None:
    memory = Memory()
    memory.add("a", 0)
    del memory.live["a"]
    memory.add("a", 0)
    assert memory.due(TIMEOUT) == ["a"]


def test_keys_of_gone_entities_do_not_pile_up() -> None:
    memory = Memory()
    memory.add("stays", 0)
    for now in range(100_000):
        memory.add("comes and goes", now)
        del memory.live["comes and goes"]
    assert memory.ages.placed < 30_000
    memory.live["stays"].seedbed_since = 100_000
    assert memory.oldest(100_001) == "stays"


Steps = st.lists(
    st.tuples(st.sampled_from(["add", "use", "busy", "go", "due", "oldest"]), st.integers(0, 5)),
    max_size=60,
)


@given(Steps, st.lists(st.integers(0, 400), min_size=60, max_size=60))
def test_it_agrees_with_a_plain_search(steps: list[tuple[str, int]], pauses: list[int]) -> None:
    memory = Memory()
    now = 0
    for (step, number), pause in zip(steps, pauses, strict=False):
        now += pause
        name = str(number)
        one = memory.live.get(name)
        if step == "add" and one is None:
            memory.add(name, now)
        elif step == "use" and one is not None:
            one.seedbed_since = now
        elif step == "busy" and one is not None:
            one.seedbed_since = BUSY
        elif step == "go":
            memory.live.pop(name, None)
        elif step == "due":
            late = {n for n, o in memory.live.items() if o.seedbed_since <= now - TIMEOUT}
            assert set(memory.due(now)) == late
        elif step == "oldest":
            idle = [o.seedbed_since for o in memory.live.values() if o.seedbed_since != BUSY]
            found = memory.ages.oldest(now)
            assert (found.seedbed_since if found else None) == min(idle, default=None)


def test_what_was_in_use_when_it_was_looked_at_is_due_later() -> None:
    memory = Memory()
    memory.add("a", 0)
    assert memory.oldest(1) == "a"  # it lies in the heap now
    memory.live["a"].seedbed_since = BUSY
    assert memory.oldest(2) is None
    memory.live["a"].seedbed_since = 10
    assert memory.due(10 + TIMEOUT) == ["a"]
