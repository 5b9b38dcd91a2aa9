"""A worker's journal: opened before the worker joins, closed when it has left.

A worker without its journal never joins, so it is never ready, and a roll-out with a wrong address
or secret stops at its first pod. One that has joined goes on without it: what needs no commit is
answered, everything else is refused until the journal is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final
from uuid import uuid4

from seedbed.ids import Epoch
from seedbed.settings import Secret, bad_setting
from seedbed_worker.core.region import Region
from seedbed_worker.entity_store import Ownership
from seedbed_worker.hosted import HostedClass
from seedbed_worker.journal.open import journal_at
from seedbed_worker.journal.port import Journal, JournalError, WrongJournal
from seedbed_worker.journal.store import JournalStore

log = logging.getLogger(__name__)

AGAIN_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to open a journal that does not answer; the last one again and again."""


class Durability:
    """What a worker's durable classes need."""

    def __init__(
        self,
        journal: Journal,
        *,
        cluster: str,
        region: Region,
        lost: Callable[[Ownership], object],
        epoch_seen: Callable[[str, int, Epoch], object],
        keep: int | None,
    ) -> None:
        """`keep`: so many records behind an entity's snapshot stay; None: all."""
        self._journal = journal
        self._cluster = cluster
        self._problem: str | None = "not opened yet"
        self.store = JournalStore(
            journal,
            shard_count=region.shard_count,
            new_writer=uuid4,
            lost=lost,
            epoch_seen=epoch_seen,
            keep=keep,
        )

    def why_not(self) -> str | None:
        """Why the journal has not been accepted yet; None: it has."""
        return self._problem

    async def accept(self) -> None:
        """Return once the journal is open and ours. Raises `WrongJournal`."""
        attempt = 0
        while True:
            try:
                whose = await self._journal.open(self._cluster)
                break
            except WrongJournal as error:
                self._problem = str(error)
                raise
            except JournalError as error:
                self._problem = str(error)
                log.warning("journal not opened", extra={"error": str(error)})
                await asyncio.sleep(AGAIN_S[min(attempt, len(AGAIN_S) - 1)])
                attempt += 1
        self._problem = None
        log.info("journal open", extra={"journal": whose.journal_id, "timeline": whose.timeline})

    async def run(self) -> None:
        """Commit until cancelled."""
        await self.store.run()

    async def close(self) -> None:
        """Let go of the journal."""
        await self._journal.close()


def durability(
    address: Secret,
    hosted: Sequence[HostedClass],
    *,
    cluster: str,
    region: Region,
    lost: Callable[[Ownership], object],
    epoch_seen: Callable[[str, int, Epoch], object],
    keep: int | None,
) -> Durability | None:
    """What these classes need; None if none of them is durable. Raises `SettingsError`."""
    durable = [one.name for one in hosted if one.durable]
    if not durable:
        return None
    text = address.read()
    if text == "none":
        expected = f"a journal for {', '.join(durable)}, or durable=False in the class"
        raise bad_setting("SEEDBED_JOURNAL", text, expected)
    return Durability(
        journal_at(address),
        cluster=cluster,
        region=region,
        lost=lost,
        epoch_seen=epoch_seen,
        keep=keep,
    )
