"""A bucket of tokens in memory: durable=False, so a call costs no write.

A move or a crash fills the bucket again, which is what a limiter can afford.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import grpc

from limiter.v1 import limiter_pb2 as pb
from limiter.v1 import limiter_pb2_grpc as pb_grpc
from seedbed import Abort, Entity, Factory, ServicerContext

LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Limits:
    """How fast a bucket fills, and how much fits."""

    per_second: float = 5.0
    burst: int = 10


@dataclass
class Bucket:
    """Tokens that were taken and did not come back yet, as of a time."""

    taken: float = 0.0
    at: datetime = LONG_AGO


class Limiter(Entity[Bucket], pb_grpc.LimiterServicer, durable=False):
    """One bucket; its key is the name that is limited."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    async def Take(self, request: pb.TakeRequest, context: ServicerContext) -> pb.Verdict:
        wanted = request.tokens or 1
        if wanted > self.limits.burst:
            raise Abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"tokens is {wanted}, but the bucket holds {self.limits.burst}",
            )
        bucket, now = self.state, self.turn.now
        back = (now - bucket.at).total_seconds() * self.limits.per_second
        bucket.taken, bucket.at = max(0.0, bucket.taken - back), now
        over = bucket.taken + wanted - self.limits.burst
        verdict = pb.Verdict(allowed=over <= 0)
        if verdict.allowed:
            bucket.taken += wanted
        else:
            verdict.retry_after.FromTimedelta(timedelta(seconds=over / self.limits.per_second))
        verdict.left = int(self.limits.burst - bucket.taken)
        return verdict


@asynccontextmanager
async def entities() -> AsyncGenerator[Sequence[Factory]]:
    """`SEEDBED_ENTITIES=limiter.entity:entities`: around the worker's life, with its settings."""
    limits = Limits(
        per_second=float(os.environ.get("LIMITER_PER_SECOND", "5")),
        burst=int(os.environ.get("LIMITER_BURST", "10")),
    )
    yield [partial(Limiter, limits)]
