"""A journal goes over to a new incarnation of its cluster: told first, bound then."""

from __future__ import annotations

import pytest

from seedbed_worker.journal.adopting import adopt
from seedbed_worker.journal.memory import Memory, MemoryJournal
from seedbed_worker.journal.port import Whose, WrongJournal


async def bound(uid: str = "lost") -> Memory:
    memory = Memory()
    journal = MemoryJournal(memory)
    await journal.open("c")
    if uid:
        await journal.bind(uid)
    return memory


async def test_it_is_bound_to_what_the_cluster_answers() -> None:
    memory = await bound()
    asked: list[Whose] = []

    def pin(whose: Whose) -> str:
        asked.append(whose)
        assert memory.whose.cluster_uid == "lost", "told before it is bound"
        return "new"

    whose = await adopt(MemoryJournal(memory), "c", pin, fresh=False)
    assert asked == [whose._replace(cluster_uid="lost")]
    assert memory.whose == whose
    assert whose.cluster_uid == "new"


async def test_it_stays_as_it_is_if_the_cluster_refuses() -> None:
    memory = await bound()

    def pin(whose: Whose) -> str:
        raise LookupError

    with pytest.raises(LookupError):
        await adopt(MemoryJournal(memory), "c", pin, fresh=False)
    assert memory.whose.cluster_uid == "lost"


async def test_one_that_was_never_bound_is_only_taken_on_purpose() -> None:
    memory = await bound("")
    asked: list[Whose] = []

    def pin(whose: Whose) -> str:
        asked.append(whose)
        return "new"

    with pytest.raises(WrongJournal, match="never bound"):
        await adopt(MemoryJournal(memory), "c", pin, fresh=False)
    assert not asked
    await adopt(MemoryJournal(memory), "c", pin, fresh=True)
    assert memory.whose.cluster_uid == "new"
