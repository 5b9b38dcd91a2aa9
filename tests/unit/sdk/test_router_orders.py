"""Whatever tables, answers, refusals and losses come in which order: one end each, in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seedbed.calls import EntityCall, Failed, NotHere, Replied
from seedbed.errors import Reason
from seedbed.ids import Generation
from seedbed.link import LinkLimits
from seedbed.router import RouterLimits
from tests.unit.sdk.fake_network import FakeWorker, echo, silence
from tests.unit.sdk.router_bed import Bed, bed

SHARDS = 2
STEPS = st.one_of(
    st.tuples(st.just("call"), st.integers(0, SHARDS - 1), st.booleans()),
    st.tuples(st.just("table"), st.sampled_from("ab"), st.booleans()),
    st.tuples(st.just("same table"), st.none(), st.none()),
    st.tuples(st.just("answer"), st.integers(0, 5), st.sampled_from(["good", "gone", "fenced"])),
    st.tuples(st.just("silent"), st.sampled_from(["", "a", "b"]), st.none()),
    st.tuples(st.just("break"), st.sampled_from("ab"), st.none()),
    st.tuples(st.just("time"), st.sampled_from([0.3, 1.2]), st.none()),
)


@dataclass
class Play:
    """Steps against one router, and what must hold after each."""

    it: Bed
    owner: str = "a"
    epoch: int = 11
    numbers: int = 0
    tasks: dict[int, asyncio.Task[Replied | Failed]] = field(
        default_factory=dict[int, "asyncio.Task[Replied | Failed]"]
    )
    shard_of: dict[int, int] = field(default_factory=dict[int, int])
    may_repeat: dict[int, bool] = field(default_factory=dict[int, bool])
    seen: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    ran: dict[int, int] = field(default_factory=dict[int, int])
    answered: set[int] = field(default_factory=set[int])
    """Ids of attempts that a worker has answered."""

    async def step(self, name: str, one: object, other: object) -> None:
        it = self.it
        waiting = self.waiting()
        match name, one, other:
            case "call", int(shard), bool(may_repeat):
                self.numbers += 1
                call = it.call(shard=shard, key=str(self.numbers), timeout=60)
                self.shard_of[self.numbers] = shard
                self.may_repeat[self.numbers] = may_repeat
                self.tasks[self.numbers] = it.start(call, repeatable=may_repeat)
            case "table", str(owner), bool(moving):
                if owner != self.owner or not moving:
                    self.epoch = it.generation + 1
                    self.owner = owner
                it.place(self.owner, epoch=self.epoch, moving=moving)
            case "same table", _, _:
                it.place(self.owner, epoch=self.epoch)
            case "answer", int(number), str(answer):
                self.answer(number, answer)
            case "silent", str(who), _:
                it.silent(*who)
            case "break", str(who), _:
                self.worker(who).break_streams()
            case "time", float(seconds), _:
                it.clock.advance(seconds)
                it.router.tick()
            case _:
                raise AssertionError(name)
        await settle()
        self.check_order(waiting)

    def worker(self, name: str) -> FakeWorker:
        return self.it.a if name == "a" else self.it.b

    def answer(self, number: int, answer: str) -> None:
        for name in "ab":
            worker = self.worker(name)
            for id_, call in zip(worker.ids, worker.calls, strict=True):
                if id_ in self.answered or id_ in worker.cancelled:
                    continue
                if number:
                    number -= 1
                    continue
                self.answered.add(id_)
                match answer:
                    case "good":
                        worker.reply(id_, Replied(call.key.encode(), call.epoch))
                    case "gone":
                        worker.reply(id_, NotHere(Generation(self.it.generation)))
                    case _:
                        worker.reply(id_, Failed(10, "", Reason.FENCED, started=True))
                return

    def waiting(self) -> set[int]:
        """Calls that no worker has at present, as far as their ends have not come."""
        return {number for number, task in self.tasks.items() if not task.done()} - self.under_way()

    def under_way(self) -> set[int]:
        held: set[int] = set()
        for name in "ab":
            worker = self.worker(name)
            held |= {
                int(call.key)
                for id_, call in zip(worker.ids, worker.calls, strict=True)
                if id_ not in self.answered
            }
        return held

    def check_order(self, waited: set[int]) -> None:
        """What left in this step left in order, and nothing of its shard that is older waits."""
        for name in "ab":
            worker = self.worker(name)
            new = [int(call.key) for call in worker.calls[self.seen[name] :]]
            self.seen[name] = len(worker.calls)
            for shard in range(SHARDS):
                left = [number for number in new if self.shard_of[number] == shard]
                released = [number for number in left if number in waited]
                assert released == sorted(released), f"{released} to {name}"

    def check_ends(self) -> None:
        for number, task in self.tasks.items():
            outcome = task.result()
            attempts = [call for call in self.attempts() if call.key == str(number)]
            if isinstance(outcome, Replied):
                assert outcome.response in (str(number).encode(), b"payload")
            else:
                assert outcome.reason is Reason.OUTCOME_UNKNOWN, outcome
            repeats = max((call.attempt for call in attempts), default=1)
            assert repeats <= (2 if self.may_repeat[number] else 1)

    def attempts(self) -> list[EntityCall]:
        return [*self.it.a.calls, *self.it.b.calls]


async def settle() -> None:
    """Let everything that can go on without time go on."""
    for _ in range(25):
        await asyncio.sleep(0)


async def play(steps: list[tuple[str, object, object]]) -> None:
    # A Link that lingers delivers when real time has passed, which no step waits for.
    async with bed(limits=RouterLimits(link=LinkLimits(linger_s=0))) as it:
        it.a.answer = it.b.answer = silence
        it.place("a")
        acts = Play(it)
        for step in steps:
            await acts.step(*step)
        it.a.answer = it.b.answer = echo
        await acts.step("silent", "", None)
        acts.owner = "a"
        await acts.step("table", "b", False)
        await acts.step("time", 1.2, None)
        for task in acts.tasks.values():
            await task
        acts.check_ends()
        calls = len(acts.attempts())
        it.place("a")
        await settle()
        assert len(acts.attempts()) == calls, "ended calls are sent no more"
        assert it.router.parked == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=14))
def test_every_call_ends_once_and_no_call_overtakes_those_that_wait(
    steps: list[tuple[str, object, object]],
) -> None:
    asyncio.run(play(steps))
