"""Epochs that workers were shown above their tables': the shard is written again above them."""

from __future__ import annotations

from collections.abc import Mapping

from seedbed.ids import Epoch
from seedbed.routing import CHUNK, ShardTable
from seedbed_seed.core.draft import Draft, TableKey

MAX_EPOCH = 1 << 62
"""A reported epoch above this is nonsense: following it would use up the numbers there are."""


class EpochReports:
    """Reports that no table has overtaken. They are this leader's, and not for ever: a worker that
    is still refused reports again."""

    __slots__ = ("_reported",)

    def __init__(self) -> None:
        self._reported: dict[tuple[str, int], Epoch] = {}

    def add(self, type_: str, shard: int, epoch: Epoch) -> None:
        """A worker was shown this epoch of its shard."""
        if shard >= 0 and epoch < MAX_EPOCH:
            self._reported[type_, shard] = epoch

    def forget(self) -> None:
        """This seed leads no more, or does from now on."""
        self._reported.clear()

    def renew(self, tables: Mapping[TableKey, ShardTable], draft: Draft) -> None:
        """Write the shards of which tables are below the reports above them."""
        for (type_, shard), epoch in list(self._reported.items()):
            table = tables.get((type_, shard // CHUNK))
            if (
                table is None
                or shard >= table.shard_count
                or table.owner_of(shard) is None
                or table.epoch[shard % CHUNK] >= epoch
            ):
                del self._reported[type_, shard]
            else:
                draft.renew((type_, shard // CHUNK), [shard], above=epoch)
