"""How a worker's entities reach others: `self.channel`, and the router behind it.

The channel is one for all entities of a host. Who calls is looked up when a call is made.
"""

from __future__ import annotations

import asyncio

import grpc.aio

from seedbed.client_channel import Channel
from seedbed.client_session import ClientSession
from seedbed.clock import Clock
from seedbed.router import RouterLimits
from seedbed.tracing import Tracer
from seedbed.transport import Transport
from seedbed.turn import CURRENT
from seedbed_worker.config import WorkerConfig
from seedbed_worker.core.first_attempts import FirstAttempts
from seedbed_worker.jobs import Job
from seedbed_worker.turn_calls import TurnCalls


class Onward:
    """The outgoing calls of a worker's entities. Works while `run` runs."""

    def __init__(
        self, session: ClientSession, *, default_deadline_s: float, repeat_window_s: float
    ) -> None:
        self.session = session
        self.channel: grpc.aio.Channel = Channel(self)
        self.default_deadline_s = default_deadline_s
        self.first_attempts = FirstAttempts(int(repeat_window_s * 1000))
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Follow the seeds from the first call on: before it, nothing is connected."""
        await self._wanted.wait()
        await self.session.run()

    async def ready(self) -> None:
        """Return when the first routes are there."""
        self._wanted.set()
        await self.session.synced.wait()

    def caller(self) -> TurnCalls:
        """The turn of this task, or the block outside one. Raises `RuntimeError`."""
        job = CURRENT.get()
        if not isinstance(job, Job) or not (job.open or job.is_outside):
            raise RuntimeError(
                "a call through self.channel outside any turn: call entities in RPC methods and"
                " hooks, in tasks that end within their turn (asyncio.TaskGroup), and in"
                " `async with self.outside():`"
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "a call through self.channel in a thread, where nobody would carry it: make it in"
                " the turn, before or after asyncio.to_thread"
            ) from None
        calls = job.onward
        if calls is None or calls.in_hook is not job.in_hook:
            if calls is not None:
                calls.turn_ended()
            self._wanted.set()
            calls = job.onward = TurnCalls(self, job)
        return calls


def onward(config: WorkerConfig, transport: Transport, clock: Clock, tracer: Tracer) -> Onward:
    """As the settings say."""
    session = ClientSession(
        transport,
        config.seeds,
        RouterLimits(config.parking),
        clock,
        max_message_bytes=config.max_message_bytes,
        node=config.node_id,
        tracer=tracer,
    )
    return Onward(
        session,
        default_deadline_s=config.default_deadline_s,
        repeat_window_s=config.repeat_window_s,
    )
