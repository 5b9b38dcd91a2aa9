"""What `self.turn` gives: a view of a running turn, which makes what costs more when asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from seedbed.turn import Turn

if TYPE_CHECKING:
    from seedbed_worker.own_turn import OwnTurn  # it has its turns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PresentTurn(Turn):
    """The turn that a job is in; it stays true when the job's next one has begun.

    With all values made at once, a turn cost 4 µs: two clocks, an id, three times.
    """

    __slots__ = ("_call", "_commits", "_in_hook", "_made_now", "_owned", "_rt", "_started_ns")

    def __init__(self, job: OwnTurn) -> None:
        self._rt = job.home.rt
        self._call = job.call
        self._commits = job.home.commits
        self._owned = job.shard
        self._in_hook = job.in_hook
        self._read_only = not job.exclusive
        self._started_ns = job.started_ns
        self._made_now: datetime | None = None

    @property
    def entity_type(self) -> str:
        return self._call.type

    @property
    def shard(self) -> int:
        return self._owned.number

    @property
    def epoch(self) -> int:
        return self._owned.epoch

    @property
    def worker(self) -> str:
        return self._rt.node_id

    @property
    def request_id(self) -> str:
        if self._in_hook:
            return ""
        if not self._call.request_id:
            self._call.request_id = self._rt.request_ids.mint()
        return self._call.request_id

    @property
    def caller(self) -> str:
        return "" if self._in_hook else self._call.caller

    @property
    def deadline(self) -> datetime | None:
        deadline_ns = self._call.deadline_ns
        if deadline_ns is None:
            return None
        return self.now + timedelta(microseconds=(deadline_ns - self._started_ns) // 1000)

    @property
    def now(self) -> datetime:
        """The time at which the turn began, however late one asks."""
        if self._made_now is None:
            clock = self._rt.clock
            ago_ns = clock.now_ns() - self._started_ns
            wall = timedelta(milliseconds=clock.wall_ms(), microseconds=-ago_ns // 1000)
            self._made_now = _EPOCH + wall
        return self._made_now

    async def confirm(self) -> None:
        await self._commits.confirm(self._owned)
