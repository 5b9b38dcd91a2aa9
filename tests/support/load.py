"""Calls at a steady rate against entities, every one of them recorded and checked."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import reason
from tests.support.waiting import until

Dial: TypeAlias = Callable[[str], AbstractAsyncContextManager[grpc.aio.Channel]]
"""From an entry to a channel: a plain one, or `seedbed.Client`."""


@dataclass(frozen=True)
class Call:
    """One call and its end; times are of the event loop, in seconds (CLOCK_MONOTONIC)."""

    key: str
    sent: float
    done: float
    code: grpc.StatusCode
    reason: str = ""
    count: int = 0
    epoch: int = 0
    worker: str = ""
    text: str = ""
    number: int = 0

    @property
    def took(self) -> float:
        return self.done - self.sent

    @property
    def ok(self) -> bool:
        return self.code is grpc.StatusCode.OK


@dataclass
class Load:
    """What came of the calls so far."""

    calls: list[Call] = field(default_factory=list[Call])

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if not call.ok]

    def since(self, time: float) -> list[Call]:
        return [call for call in self.calls if call.sent >= time]

    def back_after(self, strike: float, keys: Sequence[str]) -> float:
        """Seconds from the strike to the last key's first good answer to a call sent after it."""
        first: dict[str, float] = {}
        for call in self.since(strike):
            if call.ok:
                first[call.key] = min(first.get(call.key, call.done), call.done)
        missing = set(keys) - first.keys()
        assert not missing, f"never answered again: {sorted(missing)[:5]} of {len(missing)}"
        return max(first.values()) - strike

    def check_single_owner(self) -> None:
        """No count twice in one epoch; no old epoch answers what was sent after a newer answer."""
        counted: set[tuple[str, int, int]] = set()
        newest: dict[str, list[tuple[float, int]]] = {}
        for call in sorted((c for c in self.calls if c.ok), key=lambda c: c.done):
            life = (call.key, call.epoch, call.count)
            assert life not in counted, f"counted twice in one epoch: {call}"
            counted.add(life)
            for done, epoch in newest.get(call.key, []):
                assert not (done < call.sent and epoch > call.epoch), f"old owner answered: {call}"
            newest.setdefault(call.key, []).append((call.done, call.epoch))

    def summary(self) -> str:
        took = sorted(call.took for call in self.calls) or [0.0]
        codes = {f"{c.code.name}/{c.reason}" for c in self.failed}
        return (
            f"{len(self.calls)} calls, {len(self.failed)} failed {sorted(codes)}, "
            f"p50 {statistics.median(took) * 1e3:.1f} ms, max {took[-1] * 1e3:.0f} ms"
        )


async def add(stub: rpc.CensusAsyncStub, key: str, timeout: float, number: int = 0) -> Call:
    """One recorded call of `Add`; `number` names it in what the entity reports."""
    time = asyncio.get_running_loop().time
    sent = time()
    try:
        reply = await stub.Add(pb.Person(name=key, number=number), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        text = error.details() or ""
        return Call(key, sent, time(), error.code(), reason(error), text=text, number=number)
    return Call(
        *(key, sent, time(), grpc.StatusCode.OK, "", reply.count, reply.epoch, reply.worker),
        number=number,
    )


@asynccontextmanager
async def load(
    entries: Sequence[str],
    keys: Sequence[str],
    *,
    per_s: float = 200.0,
    timeout: float = 5.0,
    dial: Dial = grpc.aio.insecure_channel,
) -> AsyncGenerator[Load, None]:
    """Call the keys in turn through the entries in turn until the scope ends.

    Each entry is dialled once; each call has a number of its own, from 1 on.
    """
    record = Load()
    stubs: list[rpc.CensusAsyncStub] = []

    async def one(number: int) -> None:
        # Not by the number alone: else each key would always take the same entry.
        stub = stubs[(number + number // len(keys)) % len(stubs)]
        record.calls.append(await add(stub, keys[number % len(keys)], timeout, number + 1))

    async def drive(calls: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        begin, number = loop.time(), 0
        while True:
            due = int((loop.time() - begin) * per_s)
            while number < due:
                calls.create_task(one(number))
                number += 1
            await asyncio.sleep(1 / per_s)

    async with AsyncExitStack() as channels:
        for entry in entries:
            channel = await channels.enter_async_context(dial(entry))
            stubs.append(rpc.CensusStub(channel))
        async with asyncio.TaskGroup() as calls:
            driver = calls.create_task(drive(calls))
            try:
                yield record
            finally:
                driver.cancel()


async def warm(record: Load, keys: Sequence[str]) -> None:
    """Every key has answered once."""
    await until(
        "every key answers",
        lambda: {call.key for call in record.calls if call.ok} >= set(keys),
        within=20,
    )


async def back(record: Load, keys: Sequence[str], strike: float, *, within: float) -> float:
    """Wait until every key answered a call sent after the strike; seconds it took."""
    await until(
        f"every key answers again; {record.summary()}",
        lambda: {call.key for call in record.since(strike) if call.ok} >= set(keys),
        within=within,
    )
    return record.back_after(strike, keys)


REFUSALS = frozenset({"MOVING", "NO_WORKERS", "OUTCOME_UNKNOWN", "DEADLINE"})


def check_calls(record: Load, timeout: float, reasons: Container[str] = REFUSALS) -> None:
    """No call outlived its deadline, and every refusal has one of the agreed reasons."""
    late = [call for call in record.calls if call.took > timeout + 0.5]
    assert not late, f"past the deadline: {late[0]}"
    odd = [call for call in record.failed if call.reason not in reasons]
    assert not odd, f"unexpected end: {odd[0]}"
    record.check_single_owner()
