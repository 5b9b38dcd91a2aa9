"""What durable entities keep, against what their callers were told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import grpc
import grpc.aio
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from tests.support.load import Call

ENTITIES = "tests.support.durable_census:DurableCensus"
"""For `cluster(entities=...)`, with `worker_env=sqlite_in(...)`."""
FILE = "seedbed.db"
DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED


def sqlite_in(folder: Path) -> dict[str, str]:
    """A worker's setting: its journal is this folder's `FILE`."""
    return {"SEEDBED_JOURNAL": f"sqlite:///{folder}/{FILE}"}


async def counts(entry: str, keys: Iterable[str]) -> dict[str, int]:
    """What these entities have counted."""
    async with grpc.aio.insecure_channel(entry) as channel:
        stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
        return {key: (await stub.Get(pb.Person(name=key), timeout=5)).count for key in keys}


async def check_nothing_lost(entry: str, calls: Iterable[Call]) -> None:
    """Every acknowledged count was given once, and is there; nothing else is, but calls whose end
    nobody knows. So where no call has failed, each entity has counted its calls."""
    acknowledged: dict[str, list[int]] = defaultdict(list)
    unclear: dict[str, int] = defaultdict(int)
    for call in calls:
        if call.ok:
            acknowledged[call.key].append(call.count)
        else:
            unclear[call.key] += call.reason == "OUTCOME_UNKNOWN" or call.code is DEADLINE
    for key, kept in (await counts(entry, acknowledged)).items():
        given = acknowledged[key]
        assert len(set(given)) == len(given), f"{key}: a count was given twice: {given}"
        assert kept >= max(given), f"{key}: {max(given)} was acknowledged, {kept} is there"
        most = len(given) + unclear[key]
        assert kept <= most, f"{key}: {kept} is there, and no more than {most} was asked for"
