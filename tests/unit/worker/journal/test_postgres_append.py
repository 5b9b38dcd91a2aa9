"""What an append has come to, whose shards went over two connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from seedbed_worker.journal.port import Clash, InDoubt, JournalError, ShardKey, Unavailable
from seedbed_worker.journal.postgres_append import together

A, B = ("type", 0), ("type", 1)


def clash(*written: ShardKey) -> Clash:
    error = Clash("text")
    error.written = written
    return error


async def come_to(*lanes: set[ShardKey] | Exception) -> set[ShardKey]:
    futures: Sequence[asyncio.Future[set[ShardKey]]] = [asyncio.Future() for _ in lanes]
    for future, outcome in zip(futures, lanes, strict=True):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    return together(futures)


async def test_what_both_have_written_is_written() -> None:
    assert await come_to() == set()
    assert await come_to({A}, {B}) == {A, B}


async def test_if_one_is_in_doubt_all_is() -> None:
    for other in ({A}, Unavailable(), clash(A), InDoubt()):
        with pytest.raises(InDoubt):
            await come_to(other, InDoubt())


async def test_nothing_was_done_only_if_neither_did_anything() -> None:
    with pytest.raises(Unavailable):
        await come_to(Unavailable(), Unavailable())
    with pytest.raises(Unavailable):
        await come_to(Unavailable(), set())
    for other in ({A}, clash(A)):
        with pytest.raises(InDoubt):
            await come_to(other, Unavailable())


async def test_a_clash_names_what_both_have_written() -> None:
    with pytest.raises(Clash) as found:
        await come_to({A}, clash(B))
    assert set(found.value.written) == {A, B}
    with pytest.raises(Clash) as found:
        await come_to(clash(A), clash(B))
    assert set(found.value.written) == {A, B}


async def test_what_is_no_error_of_a_journal_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        await come_to(ZeroDivisionError(), {A})
    with pytest.raises(JournalError):
        await come_to(JournalError(), set())
