"""Reads, guarded writes, and long listings at one revision."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed_seed.etcd import codec
from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.etcd.calls import RANGE, TXN, Calls
from seedbed_seed.etcd.revisions import Revisions
from seedbed_seed.store import Compare, Entry, Get, Outcome, Reading, Write
from seedbed_seed.store_limits import check_reads, check_write

PAGE_KEYS = 1_000
"""Keys of one page of a listing."""


class KeyValues:
    """etcd's keys and values, by linearizable requests only."""

    def __init__(self, calls: Calls, revisions: Revisions) -> None:
        self._calls = calls
        self._revisions = revisions

    async def read(self, gets: Sequence[Get], timeout: float | None) -> Reading:
        """Read several keys and ranges in one transaction."""
        check_reads(gets)
        mark = self._revisions.mark()
        answer = await self._calls.repeatable(TXN, codec.reading(gets), timeout)
        self._revisions.observe(answer.header, mark)
        return Reading(answer.header.revision, codec.answers(gets, answer.responses))

    async def write(
        self,
        writes: Sequence[Write],
        when: Sequence[Compare],
        otherwise: Sequence[Get],
        timeout: float | None,
    ) -> Outcome:
        """Write all if every compare holds, else nothing; sent at most once."""
        check_write(writes, when, otherwise)
        mark = self._revisions.mark()
        request = codec.transaction(writes, when, otherwise)
        answer = await self._calls.once(TXN, request, timeout)
        self._revisions.observe(answer.header, mark)
        answers = () if answer.succeeded else codec.answers(otherwise, answer.responses)
        return Outcome(answer.succeeded, answer.header.revision, answers)

    async def list(
        self, prefix: str, *, at: int = 0, page_keys: int = PAGE_KEYS
    ) -> tuple[int, tuple[Entry, ...]]:
        """Read all keys under the prefix at one revision (0: the present one), page by page.

        Raises `Compacted` if it is not kept any more, `StoreError` if it is still to come.
        """
        key, end = codec.key_range(prefix)
        revision = at
        entries: list[Entry] = []
        while True:
            mark = self._revisions.mark()
            request = wire.RangeRequest(key=key, range_end=end, limit=page_keys, revision=revision)
            page = await self._calls.repeatable(RANGE, request)
            self._revisions.observe(page.header, mark)
            revision = revision or page.header.revision
            entries += codec.entries(page.kvs)
            if not page.more:
                return revision, tuple(entries)
            key = page.kvs[-1].key + b"\0"

    async def check(self) -> int:
        """Return the store's revision by one small linearizable read.

        It notices a store that was restored.
        """
        return (await self.read([Get("\0")], None)).revision
