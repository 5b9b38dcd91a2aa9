"""The rate limiter in a cluster inside this process, whose clock stands still."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import grpc
import grpc.aio
import pytest
from limiter.entity import Limiter, Limits, entities
from limiter.v1 import limiter_pb2 as pb
from limiter.v1 import limiter_pb2_grpc as pb_grpc

from seedbed.testing import Cluster, cluster

SLOW = partial(Limiter, Limits(per_second=0.5, burst=3))


async def take(c: Cluster, name: str = "alice", tokens: int = 1) -> pb.Verdict:
    return await pb_grpc.LimiterStub(c.channel).Take(pb.TakeRequest(name=name, tokens=tokens))


async def test_a_burst_is_allowed_and_what_is_over_it_is_not() -> None:
    async with cluster(SLOW) as c:
        assert [(await take(c)).left for _ in range(3)] == [2, 1, 0]
        refused = await take(c)
        assert not refused.allowed
        assert refused.retry_after.ToTimedelta() == timedelta(seconds=2)


async def test_tokens_come_back_with_time_and_never_more_than_fit() -> None:
    async with cluster(SLOW) as c:
        await take(c, tokens=3)
        await c.advance(timedelta(seconds=2))
        assert (await take(c)).allowed
        assert not (await take(c)).allowed
        await c.advance(timedelta(hours=1))
        assert (await take(c, tokens=3)).allowed
        assert not (await take(c)).allowed


async def test_names_do_not_share_a_bucket() -> None:
    async with cluster(SLOW, workers=2) as c:
        await take(c, "alice", 3)
        assert (await take(c, "bob", 3)).allowed


async def test_a_move_fills_the_bucket() -> None:
    async with cluster(SLOW, workers=2) as c:
        await take(c, tokens=3)
        await c.move(Limiter, "alice", to=1)
        assert (await take(c, tokens=3)).allowed


async def test_more_than_the_bucket_holds_can_never_be_allowed() -> None:
    async with cluster(SLOW) as c:
        with pytest.raises(grpc.aio.AioRpcError, match="the bucket holds 3") as raised:
            await take(c, tokens=4)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_worker_takes_the_limits_from_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIMITER_BURST", "2")
    async with entities() as factories, cluster(*factories) as c:
        assert [(await take(c)).allowed for _ in range(3)] == [True, True, False]
