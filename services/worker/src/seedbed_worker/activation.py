"""The two ends of an entity's life in memory: how it is made, and how it leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from google.protobuf.empty_pb2 import Empty

from seedbed.calls import EntityCall
from seedbed.contract import MethodContract
from seedbed.entity import AnyEntity
from seedbed.keys import KeyKind, KeyPath
from seedbed.turn import CURRENT
from seedbed_worker.cells import Cell
from seedbed_worker.core.passivation import BUSY
from seedbed_worker.hosted import HostedMethod
from seedbed_worker.household import Household
from seedbed_worker.jobs import Job, nobody

log = logging.getLogger(__name__)

_HOOK: Final = HostedMethod(
    MethodContract(
        name="deactivating",
        path="",
        key=KeyPath((1,), KeyKind.STRING, presence=False),
        server_streaming=False,
        repeatable=False,
        read_only=False,
    ),
    Empty,
    Empty,
)


async def make(job: Job, cell: Cell) -> AnyEntity:
    """Make the entity that the job needs, load it, and run its `activated()` as a turn."""
    hosted, commits = job.home.hosted, job.home.commits
    entity = hosted.factory()
    entity.seedbed_key = cell.key
    entity.seedbed_shard = cell.shard
    entity.seedbed_since = BUSY
    await commits.load(entity, cell.shard)
    if hosted.has_activated:
        job.entity = entity
        job.in_hook = job.began = job.open = True
        try:
            await entity.activated()
            job.open = False
            commits.keep(job)
        finally:
            job.open = False
            job.entity = None
        job.in_hook = False
        job.forget_turn()
    return entity


class Departure(Job):
    """An entity's last turn: runs `deactivating()`, if there is one, then the entity is gone."""

    __slots__ = ("_gone",)

    def __init__(self, home: Household, cell: Cell, gone: Callable[[Cell], None]) -> None:
        rt = home.rt
        deadline_ns = rt.clock.now_ns() + int(rt.limits.handoff_timeout_s * 1e9)
        call = EntityCall(
            method=f"{home.hosted.contract.type}: deactivating()",
            type=home.hosted.contract.type,
            key=cell.key,
            shard=cell.shard.number,
            request=b"",
            deadline_ns=deadline_ns,
        )
        super().__init__(home, _HOOK, call, nobody)
        self.cell = cell
        self.shard = cell.shard
        self._gone = gone

    def granted(self) -> None:
        assert self.cell is not None
        if self.cell.roaming:  # the turn before it has gone outside
            self.cell.departing = False
            self.cell.leave_later = True
            self.home.leave(self)
            self.home.forget(self)
        elif self.home.hosted.has_deactivating:
            super().granted()
        else:
            self._leave()

    @property
    def hook(self) -> str:
        return "deactivating()"

    async def run(self) -> None:
        CURRENT.set(self)
        assert self.cell is not None
        try:
            # Without a lease nothing that the hook did could count.
            if not self.ended and self.may_begin() is None and self.cell.entity is not None:
                self.entity = self.cell.entity
                self.in_hook = self.began = self.open = True
                await self.entity.deactivating()
                self.open = False
                self.home.commits.keep(self)
                await self.home.commits.kept(self.cell.key)
        except BaseException as error:
            self.failure(error)
        finally:
            self.open = False
            self._leave()

    def _leave(self) -> None:
        assert self.cell is not None
        self.ended = True
        self._gone(self.cell)
        self.home.leave(self)
        self.home.forget(self)
