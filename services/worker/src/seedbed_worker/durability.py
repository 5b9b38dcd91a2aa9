"""A worker's journal: opened before the worker joins, bound as it does, closed when it has left.

A worker without its journal never joins, so it is never ready, and a roll-out with a wrong address
or secret stops at its first pod. One that has joined goes on without it: what needs no commit is
answered, everything else is refused until the journal is back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import uuid4

from seedbed.ids import Epoch
from seedbed.settings import Secret, bad_setting
from seedbed_worker.binding import Binding
from seedbed_worker.hosted import HostedClass
from seedbed_worker.journal.open import journal_at
from seedbed_worker.journal.port import Journal
from seedbed_worker.journal.store import JournalStore, Lost


class Durability:
    """What a worker's durable classes need."""

    def __init__(
        self,
        journal: Journal,
        *,
        lost: Lost,
        epoch_seen: Callable[[str, int, Epoch], object],
        keep: int | None,
    ) -> None:
        """`keep`: so many records behind an entity's snapshot stay; None: all."""
        self._journal = journal
        self.binding = Binding(journal)
        self.store = JournalStore(
            journal, new_writer=uuid4, lost=lost, epoch_seen=epoch_seen, keep=keep
        )

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
    require_sync: bool,
    lost: Lost,
    epoch_seen: Callable[[str, int, Epoch], object],
    keep: int | None,
) -> Durability | None:
    """What these classes need; None if none of them is durable. Raises `SettingsError`.

    `require_sync`: see `journal_at`.
    """
    durable = [one.name for one in hosted if one.durable]
    if not durable:
        return None
    text = address.read()
    if text == "none":
        expected = f"a journal for {', '.join(durable)}, or durable=False in the class"
        raise bad_setting("SEEDBED_JOURNAL", text, expected)
    journal = journal_at(address, require_sync=require_sync)
    return Durability(journal, lost=lost, epoch_seen=epoch_seen, keep=keep)
