"""Which calls a worker admits, and which answers may leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Handoff, Owner, ShardTable
from seedbed_worker.core.region import Admitted, EpochAhead, Refused, Region, Release, Wait

ME, OTHER = Incarnation("me"), Incarnation("other")
OWNERS = (
    Owner(NodeId("n1"), ME, "10.0.0.1", 1),
    Owner(NodeId("n2"), OTHER, "10.0.0.2", 2),
)
MINE, ITS, NONE = 1, 2, 0


def table(
    generation: int,
    owner: list[int],
    epochs: list[int],
    handoffs: dict[int, Handoff] | None = None,
) -> ShardTable:
    return ShardTable(
        "t",
        0,
        len(owner),
        Generation(generation),
        OWNERS,
        tuple(owner),
        tuple(Epoch(e) for e in epochs),
        handoffs or {},
    )


def region(*tables: ShardTable) -> Region:
    it = Region()
    it.begin(ME)
    it.observe(tables, 0)
    return it


def admit(
    it: Region, shard: int, epoch: int = 0, generation: int = 0, *, seed: bool = True
) -> object:
    return it.admit("t", shard, Epoch(epoch), Generation(generation), from_seed=seed)


def test_a_call_of_a_plain_client_is_admitted_if_the_shard_is_ours() -> None:
    it = region(table(10, [MINE, ITS], [10, 10]))
    assert admit(it, 0) == Admitted(Epoch(10), ME)
    assert admit(it, 1) == Refused(Generation(10))


def test_a_call_that_shows_our_epoch_is_admitted_whatever_its_generation() -> None:
    it = region(table(10, [MINE, ITS], [5, 10]))
    assert admit(it, 0, 5, 99) == Admitted(Epoch(5), ME)
    assert admit(it, 0, 3, 3) == Admitted(Epoch(5), ME), "by an older table it was ours too"


def test_a_call_by_a_newer_table_waits_for_it() -> None:
    it = region(table(10, [MINE, ITS], [10, 10]))
    assert admit(it, 0, 12, 12) == Wait(Generation(12))
    assert admit(it, 1, 12, 12) == Wait(Generation(12))
    assert admit(it, 1, 12, 12, seed=False) == Wait(Generation(12))


def test_a_call_before_any_table_waits_or_is_refused() -> None:
    it = region()
    assert admit(it, 0, 12, 12) == Wait(Generation(12))
    assert admit(it, 0) == Refused(Generation(0))


def test_an_epoch_ahead_of_the_newest_table_is_reported_on_a_seeds_word_only() -> None:
    it = region(table(10, [MINE, ITS], [5, 10]))
    assert admit(it, 0, 8, 10) == EpochAhead(Epoch(8))
    assert admit(it, 0, 8, 10, seed=False) == Refused(Generation(10))


def test_a_draining_region_admits_nothing_but_lets_answers_out() -> None:
    it = region(table(10, [MINE], [10]))
    it.drain()
    assert it.draining
    assert admit(it, 0) == Refused(Generation(10))
    assert it.may_reply(ME, "t", 0, Epoch(10))


def test_a_fenced_incarnation_admits_and_answers_nothing_for_ever() -> None:
    it = region(table(10, [MINE], [10]))
    it.fence()
    assert it.incarnation is None
    assert admit(it, 0) == Refused(Generation(10))
    assert not it.may_reply(ME, "t", 0, Epoch(10))
    it.observe([table(11, [MINE], [11])], 0)
    assert not it.may_reply(ME, "t", 0, Epoch(11))
    with pytest.raises(ValueError, match="fenced for ever"):
        it.begin(ME)


def test_a_new_incarnation_owns_nothing_of_its_predecessor() -> None:
    it = region(table(10, [MINE], [10]))
    it.fence()
    it.begin(Incarnation("me again"))
    assert admit(it, 0) == Refused(Generation(10))
    assert it.owned("t", 0) == 0


def test_no_answer_of_an_epoch_that_is_over() -> None:
    it = region(table(10, [MINE], [10]))
    assert it.may_reply(ME, "t", 0, Epoch(10))
    it.observe([table(11, [MINE], [11])], 0)
    assert not it.may_reply(ME, "t", 0, Epoch(10))
    it.observe([table(12, [ITS], [12])], 0)
    assert not it.may_reply(ME, "t", 0, Epoch(11))
    assert not it.may_reply(OTHER, "t", 0, Epoch(12))


LEAVING = {0: Handoff(OTHER, 10_000)}
LIMIT_NS = 10_000_000_000


def test_a_shard_in_hand_off_admits_nothing_and_answers_until_its_limit() -> None:
    it = region(table(10, [MINE, MINE], [10, 10], LEAVING))
    assert admit(it, 0) == Refused(Generation(10))
    assert it.may_reply(ME, "t", 0, Epoch(10))
    assert it.owned("t", 0) == it.owned("t", 1) == 10
    assert it.limit_ns("t", 0) == LIMIT_NS
    assert it.limit_ns("t", 1) is None
    assert admit(it, 1) == Admitted(Epoch(10), ME)


def test_a_later_table_does_not_prolong_a_hand_off_of_the_same_epoch() -> None:
    it = region(table(10, [MINE], [10], LEAVING))
    it.observe([table(11, [MINE], [10], LEAVING)], LIMIT_NS // 2)
    assert it.limit_ns("t", 0) == LIMIT_NS
    it.observe([table(12, [MINE], [12], LEAVING)], LIMIT_NS // 2)
    assert it.limit_ns("t", 0) == LIMIT_NS // 2 + LIMIT_NS


def test_a_workers_own_limit_only_shortens_the_tables() -> None:
    for own_ns, limit_ns in ((LIMIT_NS // 4, LIMIT_NS // 4), (4 * LIMIT_NS, LIMIT_NS)):
        it = Region(own_ns)
        it.begin(ME)
        it.observe([table(10, [MINE], [10], LEAVING)], 0)
        assert it.limit_ns("t", 0) == limit_ns


def test_a_released_shard_is_never_served_again_in_its_epoch() -> None:
    it = region(table(10, [MINE], [10], LEAVING))
    release = Release("t", 0, Epoch(10))
    it.release([release])
    for generation, handoffs in ((11, LEAVING), (12, {})):
        assert it.owned("t", 0) == 0
        assert not it.may_reply(ME, "t", 0, Epoch(10))
        assert admit(it, 0, generation=generation - 1) == Refused(Generation(generation - 1))
        assert it.released() == (release,)
        assert it.owns_any()
        it.observe([table(generation, [MINE], [10], handoffs)], 0)
    it.observe([table(13, [ITS], [13])], 0)
    assert it.released() == ()
    assert not it.owns_any()
    it.observe([table(14, [MINE], [14])], 0)
    assert admit(it, 0) == Admitted(Epoch(14), ME)


def test_an_older_table_changes_nothing() -> None:
    it = region(table(10, [ITS], [10]))
    assert it.observe([table(9, [MINE], [9]), table(10, [MINE], [10])], 0) == []
    assert admit(it, 0) == Refused(Generation(10))


def test_observe_tells_what_changed() -> None:
    new = table(11, [MINE], [11])
    assert region(table(10, [ITS], [10])).observe([new], 0) == [new]


def test_a_reader_keeps_one_whole_view() -> None:
    it = region(table(10, [MINE], [10]))
    view = it.view
    it.observe([table(11, [ITS], [11])], 0)
    assert view.tables["t", 0].generation == 10
    assert view.mine["t", 0] == (Admitted(Epoch(10), ME),)
    assert it.view is not view


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from([NONE, MINE, ITS])), max_size=20))
def test_generations_never_fall_and_only_the_newest_table_counts(
    seen: list[tuple[int, int]],
) -> None:
    it = region()
    newest: tuple[int, int] = (0, NONE)
    for generation, owner in seen:
        it.observe([table(generation, [owner], [generation])], 0)
        newest = max(newest, (generation, owner), key=lambda one: one[0])
        assert it.generation("t", 0) == newest[0]
        assert it.owned("t", 0) == (newest[0] if newest[1] == MINE else 0)


def test_a_hand_off_that_a_newer_table_forgets_goes_on_in_its_epoch() -> None:
    it = region(table(10, [MINE], [10], {0: Handoff(OTHER, 1000)}))
    limit_ns = it.limit_ns("t", 0)
    assert limit_ns is not None
    it.observe([table(11, [MINE], [10])], limit_ns - 1)
    assert admit(it, 0) == Refused(Generation(11))
    it.observe([table(12, [MINE], [10], {0: Handoff(OTHER, 1000)})], limit_ns)
    assert it.limit_ns("t", 0) == limit_ns
    it.observe([table(13, [MINE], [13])], limit_ns)
    assert it.limit_ns("t", 0) is None
    assert admit(it, 0) == Admitted(Epoch(13), ME)
