"""What every journal does to stay one cluster's."""

from __future__ import annotations

import pytest

from seedbed_worker.journal.port import Whose, WrongJournal
from tests.contract.journals import CLUSTER, TYPE, Maker, fence, log, opened, record, taken, written


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
