"""Which seed is next."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from seedbed_worker.core.seeds import SeedBook

ADDRESSES = st.lists(st.sampled_from(["a:1", "b:1", "c:1", "d:1"]), unique=True)


def test_an_empty_list_of_seeds_says_nothing() -> None:
    book = SeedBook(["a:1"], lambda: 0.0)
    book.told(["b:1"])
    book.told([])
    assert book.round() == ["b:1", "a:1"]


def test_workers_spread_over_the_seeds() -> None:
    chance = Random(1)
    firsts = {SeedBook(["a:1", "b:1", "c:1"], chance.random).round()[0] for _ in range(50)}
    assert firsts == {"a:1", "b:1", "c:1"}


@given(ADDRESSES.filter(bool), ADDRESSES, st.randoms(use_true_random=False), st.booleans())
def test_a_round_has_each_seed_once(
    configured: list[str], told: list[str], chance: Random, leave_one: bool
) -> None:
    book = SeedBook(configured, chance.random)
    book.told(told)
    one = configured[0]
    order = book.round(without=one) if leave_one else book.round(last=one)
    everyone = {*configured, *told}
    assert sorted(order) == sorted(everyone - {one} if leave_one else everyone)
    if not leave_one:
        assert order[-1] == one
    told_there = [address in told for address in order if address != one]
    assert told_there == sorted(told_there, reverse=True), "told ones first"
