"""Binds a journal anew, to a cluster whose store was lost: what `seedbed adopt` does.

The cluster is told first, and pins the journal; then the journal is bound. Between the two, workers
are refused as they were before, so whoever is interrupted adopts again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from seedbed_worker.journal.port import Journal, Whose, WrongJournal

Pin: TypeAlias = Callable[[Whose], str]
"""Tells the cluster that this journal is its own; returns the cluster's uid."""


async def adopt(journal: Journal, cluster: str, pin: Pin, *, fresh: bool) -> Whose:
    """Whose the journal is after it. Raises `JournalError`, and what `pin` raises.

    `fresh`: also one that was never bound; such a one is mostly not the one that was meant.
    """
    try:
        whose = await journal.open(cluster)
        if not whose.cluster_uid and not fresh:
            raise WrongJournal(
                f"the journal {whose.journal_id} was never bound to a cluster, so there is nothing"
                " to adopt: the first worker binds it. If another one was meant, correct"
                " SEEDBED_JOURNAL; else give --force"
            )
        uid = pin(whose)
        await journal.rebind(uid)
        return whose._replace(cluster_uid=uid)
    finally:
        await journal.close()
