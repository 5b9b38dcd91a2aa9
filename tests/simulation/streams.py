"""A Register stream between a worker and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seedbed_worker.core import session_messages as msg
from tests.simulation.kernel import Channel

if TYPE_CHECKING:  # seed, worker and their streams know one another
    from tests.simulation.seed import SimSeed
    from tests.simulation.worker import SimWorker


@dataclass(slots=True)
class Stream:
    """Both ways, and what has become of it at either end."""

    id: str
    number: int
    worker: SimWorker
    seed: SimSeed
    up: Channel[msg.Hello | msg.ToSeed | None]
    down: Channel[msg.FromSeed | None]
    """None is the end of the stream."""

    def break_down(self) -> None:
        """The connection is lost; both ends are told, each in its own time."""
        for channel in (self.up, self.down):
            channel.send(None)
