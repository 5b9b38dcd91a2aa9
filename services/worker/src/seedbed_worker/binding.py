"""Binds a worker's journal to the cluster that welcomes it, before the worker owns anything.

A seed lets only one journal in (`seedbed_seed.journal_pin` has the whole protocol, and who meets
whom in it); the worker lets its journal be used by one cluster only. A Welcome says the cluster's
uid and the shard counts of the worker's types. Until the journal has taken both, no heartbeat is
sent, so the worker is not up and no shard is given to it. A journal that is another's, or holds a
type under another number of shards, ends the worker's membership.

A worker that a seed refuses for its journal comes again, since `seedbed adopt` may have bound the
journal meanwhile: so it reads anew whose it is before it does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from seedbed.ids import Incarnation
from seedbed_worker.journal.port import Journal, JournalError, Whose, WrongJournal

log = logging.getLogger(__name__)

AGAIN_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts at a journal that does not answer; the last one again and again."""


class Welcomed(NamedTuple):
    """What a Welcome says to an incarnation that has a journal."""

    incarnation: Incarnation
    cluster_uid: str
    shard_counts: Mapping[str, int]


class Binding:
    """Whose the journal is, and whether this worker may use it. To be used in the loop."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._whose: Whose | None = None
        self._problem: str | None = "not opened yet"
        self._welcomed: Welcomed | None = None
        self._outdated = False
        self._taken: tuple[str, Mapping[str, int]] | None = None
        """The uid and the shard counts that the journal has taken."""
        self._news = asyncio.Event()

    def why_not(self) -> str | None:
        """Why nothing can be committed yet; None: it can. From any thread."""
        return self._problem

    def whose(self) -> Whose:
        """As it was last read, once the journal is open. From any thread."""
        assert self._whose is not None
        return self._whose

    async def open(self, cluster: str) -> None:
        """Return once the journal is open, this cluster's, and has committed a probe.

        Raises `WrongJournal`.
        """
        attempt = 0
        while True:
            try:
                await self._journal.open(cluster)
                self._whose = whose = await self._journal.probe()
                break
            except WrongJournal as error:
                self._problem = str(error)
                raise
            except JournalError as error:
                await self._again("journal not opened", error, attempt)
                attempt += 1
        self._problem = "not bound to a cluster yet"
        log.info("journal open", extra={"journal": whose.journal_id, "timeline": whose.timeline})

    def welcomed(self, welcomed: Welcomed) -> None:
        """A seed has let this incarnation in."""
        self._welcomed = welcomed
        self._news.set()

    def look_again(self) -> None:
        """A seed has refused the journal: it may be bound otherwise by the next Hello."""
        self._outdated = True
        self._news.set()

    async def keep(self, bound: Callable[[Incarnation], object]) -> None:
        """Bind to each cluster that welcomes, and call `bound` then, until cancelled.

        Raises `WrongJournal` if the journal is not this cluster's.
        """
        attempt = 0
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._settle(bound)
                attempt = 0
            except WrongJournal as error:
                self._problem = str(error)
                raise
            except JournalError as error:
                await self._again("journal not bound", error, attempt)
                attempt += 1
                self._news.set()

    async def _settle(self, bound: Callable[[Incarnation], object]) -> None:
        if self._outdated:
            self._whose = await self._journal.probe()
            self._outdated = False
        if (welcomed := self._welcomed) is None:
            return
        taken = (welcomed.cluster_uid, welcomed.shard_counts)
        if taken != self._taken:
            await self._journal.bind(welcomed.cluster_uid)
            await self._journal.enter(welcomed.shard_counts)
            self._whose = self.whose()._replace(cluster_uid=welcomed.cluster_uid)
            self._taken = taken
            log.info("journal bound", extra={"uid": welcomed.cluster_uid})
        self._problem = None
        if self._welcomed is welcomed:
            self._welcomed = None
        bound(welcomed.incarnation)

    async def _again(self, event: str, error: JournalError, attempt: int) -> None:
        self._problem = str(error)
        log.warning(event, extra={"error": str(error)})
        await asyncio.sleep(AGAIN_S[min(attempt, len(AGAIN_S) - 1)])
