"""The network between seeds and workers: Register streams and Links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed.ids import NodeId
from seedbed_worker.core import session_messages as msg
from tests.simulation.calls import Answer, Call, Lost, Outcome
from tests.simulation.kernel import MS, Channel
from tests.simulation.streams import Stream

if TYPE_CHECKING:  # a world has its network
    from tests.simulation.seed import SimSeed
    from tests.simulation.worker import SimWorker
    from tests.simulation.world import World


class Network:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kernel = world.kernel
        self._in_flight: dict[NodeId, dict[Call, Answer]] = {}

    def open_stream(self, worker: SimWorker, number: int, address: str, hello: msg.Hello) -> Stream:
        """Connect, and send the Hello."""
        seed = self._seed(address)

        def up(message: msg.Hello | msg.ToSeed | None) -> None:
            seed.heard(stream, message)

        def down(message: msg.FromSeed | None) -> None:
            worker.heard(stream, message)

        stream = Stream(
            hello.stream_id,
            number,
            worker,
            seed,
            Channel(self._kernel, worker.name, seed.process, seed.name, up),
            Channel(self._kernel, seed.name, worker.session, worker.name, down),
        )
        if seed.process.alive:
            stream.up.send(hello)
        else:
            stream.down.send(None)
        return stream

    def deliver(self, seed_name: str, node_id: NodeId, call: Call, answer: Answer) -> None:
        """A call on the link from a seed to the process at this node's address."""
        seed, worker = self._seed(seed_name), self._world.worker(node_id)
        delay_ns = self._kernel.between(MS, 5 * MS) + self._kernel.held_ns(seed_name, worker.name)
        in_flight = self._in_flight.setdefault(node_id, {})

        def sent(outcome: Outcome) -> None:
            # What was sent before a link broke still arrives.
            if in_flight.pop(call, None) is not None:
                answer(outcome)

        def serve() -> None:
            worker.turns.call(call, call.epoch, call.used, sent, from_seed=True)

        def arrive() -> None:
            if worker.alive:
                in_flight[call] = answer
                self._kernel.after(0, worker.loop, serve)
            else:
                self._kernel.after(MS, seed.process, lambda: seed.router.refused(call))

        self._kernel.after(delay_ns, None, arrive)

    def worker_died(self, worker: SimWorker) -> None:
        """Its links break."""
        in_flight = self._in_flight.get(worker.node_id, {})
        answers = list(in_flight.values())
        in_flight.clear()
        for answer in answers:
            answer(Lost())

    def _seed(self, name: str) -> SimSeed:
        return next(seed for seed in self._world.seeds if seed.name == name)
