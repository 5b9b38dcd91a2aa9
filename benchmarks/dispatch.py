"""What a worker's host costs by itself: dispatch of a call, memory and garbage collection of idle
entities. No sockets; in a process of its own, since memory is measured."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import TypedDict

import uvloop
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from benchmarks.hosting import HOUR_NS, SHARDS, hosting
from benchmarks.report import Report
from seedbed import Entity, ServicerContext
from seedbed.adapters import EntityContext
from seedbed.calls import EntityCall
from seedbed.clock import SystemClock
from seedbed.ids import Epoch, Generation
from seedbed.sharding import shard_of
from seedbed_worker.host import Host
from seedbed_worker.jobs import Answer
from seedbed_worker.loader import host_class
from seedbed_worker.runtime import HostLimits

WAVE = 64
CALLS = 100_000
RESIDENT = 10_000
IDLE = 1_000_000
REPLY = pb.Count(count=1)
UNSAMPLED = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

End = Callable[[object], None]
Start = Callable[[int, End], object]


class Plain(Entity, rpc.CensusServicer, durable=False):
    """Does nothing, so that what is left is ours."""

    async def Add(self, request: pb.Person, context: ServicerContext) -> pb.Count:
        self.save()
        return REPLY

    async def Slow(self, request: pb.SlowRequest, context: ServicerContext) -> pb.Count:
        assert self.turn.epoch == 1
        return REPLY

    async def Away(self, request: pb.SlowRequest, context: ServicerContext) -> pb.Count:
        return REPLY

    async def Get(self, request: pb.Person, context: ServicerContext) -> pb.Count:
        return REPLY

    async def Watch(self, request: pb.Person, context: ServicerContext) -> AsyncIterator[pb.Count]:
        yield REPLY


class Speed(TypedDict):
    """CPU time of a call, a figure for each round."""

    host_us: list[float]
    traced_us: list[float]
    asking_us: list[float]
    saving_us: list[float]
    turn_us: list[float]


class Figures(Speed):
    bytes_each: float
    gc_ms: list[float]


def measure(report: Report) -> None:
    """Run it all in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs,))
    process.start()
    if not ours.poll(300):
        process.kill()
        raise SystemExit("benchmarks.dispatch gave no figures within 300 s")
    figures: Figures = json.loads(ours.recv())
    process.join(10)
    host, turn = figures["host_us"], figures["turn_us"]
    report.add("in-process call, whole", host, "us")
    report.add("bare task with the same turn", turn, "us")
    report.add(
        "in-process dispatch beside that task",
        [a - b for a, b in zip(host, turn, strict=True)],
        "us",
        at_most=1,
    )
    report.add(
        "the same with self.turn used",
        [a - b for a, b in zip(figures["asking_us"], turn, strict=True)],
        "us",
        at_most=1.5,
    )
    report.add(
        "the same with save(), volatile",
        [a - b for a, b in zip(figures["saving_us"], turn, strict=True)],
        "us",
    )
    report.add(
        "the same call with an unsampled traceparent",
        [a / b for a, b in zip(figures["traced_us"], host, strict=True)],
        "x",
        at_most=1.05,
    )
    report.add("memory of an idle entity, 1 M of them", [figures["bytes_each"]], "B", at_most=400)
    report.add("full garbage collection with 1 M", figures["gc_ms"], "ms", at_most=150)


def _run(answer: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer.send(json.dumps(runner.run(_measured())))


async def _measured() -> Figures:
    clock = SystemClock()
    limits = HostLimits(max_entities=2 * IDLE, idle_timeout_s=36_000)
    async with hosting(host_class(Plain), clock, limits) as (host, tasks):
        speed = await _speed(host, clock, tasks)
        bytes_each, gc_ms = await _memory(host, clock)
    return Figures(**speed, bytes_each=bytes_each, gc_ms=gc_ms)


def _call(key: str, deadline_ns: int, traceparent: str = "", *, method: str = "Get") -> EntityCall:
    person = pb.Person(name=key)
    request = pb.SlowRequest(person=person) if method == "Slow" else person
    return EntityCall(
        method=f"/census.v1.Census/{method}",
        type="census",
        key=key,
        shard=shard_of(key.encode(), SHARDS),
        request=request.SerializeToString(),
        deadline_ns=deadline_ns,
        epoch=Epoch(1),
        generation=Generation(1),
        traceparent=traceparent,
    )


async def _speed(host: Host, clock: SystemClock, tasks: asyncio.TaskGroup) -> Speed:
    deadline_ns = clock.now_ns() + HOUR_NS
    keys = [f"person-{n}" for n in range(RESIDENT)]
    entity, parse = Plain(), pb.Person.FromString

    def submitting(method: str = "Get", traceparent: str = "") -> Start:
        calls = [_call(key, deadline_ns, traceparent, method=method) for key in keys]
        return lambda number, end: host.submit(calls[number % RESIDENT], end)

    async def turn(call: EntityCall, end: End) -> None:
        context = EntityContext(call, clock)
        end((await entity.Get(parse(call.request), context)).SerializeToString())

    calls = [_call(key, deadline_ns) for key in keys]
    starts: dict[str, Start] = {
        "host_us": submitting(),
        "traced_us": submitting(traceparent=UNSAMPLED),
        "asking_us": submitting("Slow"),
        "saving_us": submitting("Add"),
        "turn_us": lambda number, end: tasks.create_task(turn(calls[number % RESIDENT], end)),
    }
    await _drive(starts["host_us"], RESIDENT)
    gc.collect()
    gc.freeze()
    took: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(3):
        for name, start in starts.items():
            took[name].append(await _drive(start, CALLS))
    gc.unfreeze()
    return Speed(
        host_us=took["host_us"],
        traced_us=took["traced_us"],
        asking_us=took["asking_us"],
        saving_us=took["saving_us"],
        turn_us=took["turn_us"],
    )


async def _drive(start: Start, calls: int) -> float:
    """CPU microseconds a call, in waves of calls that are under way together."""
    began = process_time()
    for first in range(0, calls, WAVE):
        await _wave(start, first, WAVE)
    return (process_time() - began) / calls * 1e6


def _wave(start: Start, first: int, size: int) -> Awaitable[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = size

    def end(answer: Answer | object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set_result(None)

    for number in range(first, first + size):
        start(number, end)
    return done


async def _memory(host: Host, clock: SystemClock) -> tuple[float, list[float]]:
    deadline_ns = clock.now_ns() + HOUR_NS

    def create(number: int, end: End) -> None:
        host.submit(_call(f"idle/{number:012d}", deadline_ns), end)

    gc.collect()
    gc.disable()
    before = _resident_bytes()
    for first in range(0, IDLE, 1000):
        await _wave(create, first, 1000)
    gc.collect()
    each = (_resident_bytes() - before) / IDLE
    took: list[float] = []
    for _ in range(5):
        began = perf_counter()
        gc.collect()
        took.append((perf_counter() - began) * 1e3)
    gc.enable()
    return each, took


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


if __name__ == "__main__":
    alone = Report()
    measure(alone)
    sys.stdout.write(alone.table() + "\n")
