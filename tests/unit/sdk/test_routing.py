"""A route table follows the newest tables and never goes back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seedbed.errors import ProtocolError
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import CHUNK, Handoff, Owner, Place, RouteTable, ShardTable

ONE = Owner(NodeId("w-1"), Incarnation("i-1"), "10.0.0.1", 4685)
TWO = Owner(NodeId("w-2"), Incarnation("i-2"), "::1", 4685, durable=True)


def table(
    generation: int,
    *,
    type_: str = "thing",
    chunk: int = 0,
    shards: int = 2,
    owner: Sequence[int] = (1, 0),
    handoffs: Sequence[int] = (),
) -> ShardTable:
    return ShardTable(
        type=type_,
        chunk=chunk,
        shard_count=chunk * CHUNK + shards,
        generation=Generation(generation),
        owners=(ONE, TWO),
        owner=tuple(owner),
        epoch=tuple(Epoch(generation if index else 0) for index in owner),
        handoffs=dict.fromkeys(handoffs, Handoff(TWO.incarnation, 10_000)),
    )


def test_a_place_says_who_owns_a_shard_since_when_and_whether_it_moves() -> None:
    routes = RouteTable()
    routes.apply(5, [table(7, owner=(2, 0), handoffs=[0])], snapshot=True)
    assert routes.place("thing", 0) == Place(TWO, Epoch(7), Generation(7), moving=True)
    assert routes.place("thing", 1) == Place(None, Epoch(0), Generation(7), moving=False)
    assert (routes.epoch("thing", 0), routes.generation("thing", 1)) == (7, 7)


def test_nothing_is_known_of_a_type_or_chunk_without_a_table() -> None:
    routes = RouteTable()
    routes.apply(5, [table(7)], snapshot=True)
    for type_, shard in (("other", 0), ("thing", CHUNK)):
        assert routes.place(type_, shard) is None
        assert (routes.epoch(type_, shard), routes.generation(type_, shard)) == (0, 0)


def test_shards_of_later_chunks_are_numbered_on() -> None:
    routes = RouteTable()
    second = table(7, chunk=1, owner=(1, 2))
    routes.apply(5, [second], snapshot=True)
    place = routes.place("thing", CHUNK + 1)
    assert place is not None
    assert place.owner == second.owner_of(CHUNK + 1) == TWO
    assert second.shards_of(TWO.incarnation) == [CHUNK + 1]
    assert second.shards_of(Incarnation("gone")) == []


def test_an_ipv6_address_has_brackets() -> None:
    assert (ONE.address, TWO.address) == ("10.0.0.1:4685", "[::1]:4685")


def test_only_what_changed_is_returned() -> None:
    routes = RouteTable()
    routes.apply(5, [table(7), table(7, chunk=1)], snapshot=True)
    newer = table(8, chunk=1)
    assert routes.apply(6, [table(7), newer], snapshot=False) == [newer]


def test_an_older_revision_is_refused_whole() -> None:
    routes = RouteTable()
    routes.apply(5, [table(7)], snapshot=True)
    assert routes.apply(4, [table(9)], snapshot=False) == []
    assert routes.apply(4, [], snapshot=True) == []
    assert (routes.generation("thing", 0), routes.revision) == (7, 5)


def test_a_snapshot_removes_what_is_not_in_it() -> None:
    routes = RouteTable()
    routes.apply(5, [table(7), table(7, type_="gone")], snapshot=True)
    assert routes.apply(6, [table(7)], snapshot=True) == []
    assert routes.place("gone", 0) is None
    assert routes.place("thing", 0) is not None


def test_an_update_removes_nothing() -> None:
    routes = RouteTable()
    routes.apply(5, [table(7)], snapshot=True)
    routes.apply(6, [table(7, type_="other")], snapshot=False)
    assert routes.place("thing", 0) is not None


def test_a_restored_store_begins_its_revisions_anew_but_no_generation_falls() -> None:
    routes = RouteTable()
    routes.apply(500, [table(7), table(7, type_="other")], snapshot=True)
    assert routes.apply(3, [table(6)], snapshot=True, restored=True) == []
    assert routes.revision == 3
    assert (routes.generation("thing", 0), routes.generation("other", 0)) == (7, 7)
    assert routes.apply(4, [table(8)], snapshot=False) == [table(8)]


@pytest.mark.parametrize(
    ("owner", "shards"),
    [((1,), 2), ((1, 1, 1), 2), ((3, 0), 2), ((-1, 0), 2), ((), 0), ((1,), -1)],
    ids=["too few", "too many", "no such owner", "below 0", "no shards", "negative"],
)
def test_a_table_that_contradicts_itself_is_refused(owner: tuple[int, ...], shards: int) -> None:
    with pytest.raises(ProtocolError, match="table thing/0"):
        table(7, owner=owner, shards=shards)


@given(st.permutations(range(1, 8)))
def test_whatever_the_order_of_updates_the_newest_table_stays(generations: list[int]) -> None:
    routes = RouteTable()
    for generation in generations:
        routes.apply(generation, [table(generation)], snapshot=False)
    assert routes.revision == 7
    assert routes.generation("thing", 0) == 7


TABLES = st.lists(
    st.builds(table, st.integers(1, 9), type_=st.sampled_from(["a", "b"])),
    max_size=3,
    unique_by=lambda one: one.type,
)


class Routes(RuleBasedStateMachine):
    """Compares a route table with the plainest account of the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.routes = RouteTable()
        self.revision = 0
        self.generations: dict[str, int] = {}

    @rule(
        revision=st.integers(0, 9),
        tables=TABLES,
        snapshot=st.booleans(),
        restored=st.booleans(),
    )
    def update(
        self, revision: int, tables: list[ShardTable], snapshot: bool, restored: bool
    ) -> None:
        before = dict(self.generations)
        if restored or revision >= self.revision:
            self.revision = revision
            if snapshot and not restored:
                named = {one.type for one in tables}
                self.generations = {t: g for t, g in before.items() if t in named}
            for one in tables:
                known = self.generations.get(one.type, 0)
                self.generations[one.type] = max(known, one.generation)
        changed = self.routes.apply(revision, tables, snapshot=snapshot, restored=restored)
        assert {one.type: one.generation for one in changed} == {
            type_: generation
            for type_, generation in self.generations.items()
            if generation > before.get(type_, 0)
        }

    @invariant()
    def it_knows_the_newest_tables(self) -> None:
        assert {one.type: one.generation for one in self.routes.tables()} == self.generations
        assert self.routes.revision == self.revision


TestRoutes = Routes.TestCase
TestRoutes.settings = settings(max_examples=50, stateful_step_count=20)
