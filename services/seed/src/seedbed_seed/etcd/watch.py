"""A watch that has no gaps: a listing at one revision, then every change after it.

It resumes after the last event it passed on, never from a header (that of `created` may be ahead of
events not sent yet); only the answer to a progress request moves it without an event, because etcd
gives it once all before it was sent. It lists anew when its place was compacted away, or when the
store turns out to be restored: after every break it compares what the store held at its place with
what it knows, since a restored store may have been written past that place meanwhile. A stream on
which nothing comes although progress was asked for is torn down: a frozen member keeps its
connections. (etcd leaves progress unanswered while the store is older than the watch's start, so
until the first change a read says whether there was one.)
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Self, TypeAlias

from seedbed_seed.etcd import codec
from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.etcd.calls import DEFAULT_TIMEOUT_S, WATCH
from seedbed_seed.etcd.channels import Channels
from seedbed_seed.etcd.errors import Compacted
from seedbed_seed.etcd.kv import KeyValues
from seedbed_seed.etcd.revisions import Revisions
from seedbed_seed.etcd.streams import Stream, StreamBrokenError, open_stream
from seedbed_seed.etcd.tasks import background
from seedbed_seed.retrying import Backoff
from seedbed_seed.store import (
    Change,
    Changed,
    Changes,
    Removed,
    Snapshot,
    StoreError,
    WatchUpdate,
)

PROGRESS_IDLE_S = 1.0
"""A stream that was idle for this long is asked for its progress."""

SILENCE_LIMIT_S = 2.5
"""A stream on which nothing came for this long (so the answer is overdue) is torn down."""

UNREAD_UPDATES = 64
"""Updates that wait for a slow reader; then etcd keeps the rest."""


PROGRESS_WATCH_ID = -1
"""Marks the answer to a progress request."""

_PROGRESS = wire.WatchRequest(progress_request=wire.WatchProgressRequest())

_Stream: TypeAlias = Stream[wire.WatchRequest, wire.WatchResponse]

_log = logging.getLogger(__name__)


class _PlaceLostError(Exception):
    """The watch cannot go on from where it was: it must list again."""


class Watch:
    """One watch of one prefix: `run` fills it, iterating empties it."""

    def __init__(
        self, prefix: str, channels: Channels, kv: KeyValues, revisions: Revisions
    ) -> None:
        self._prefix = prefix
        self._channels = channels
        self._kv = kv
        self._revisions = revisions
        self._restorations = revisions.restorations
        self._updates: asyncio.Queue[WatchUpdate] = asyncio.Queue(UNREAD_UPDATES)
        self._cursor = 0
        self._placed = False
        """The watch may go on after the cursor."""
        self._held: dict[str, int] = {}
        """What the store held at the cursor: keys, and hashes of their entries."""
        self._parts: list[wire.Event] = []
        self._ahead = False
        """The store has not reached the stream's start yet: etcd answers no progress request."""
        self._silence: asyncio.Timeout | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchUpdate:
        return await self._updates.get()

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """List and follow, whatever happens to etcd; never ends."""
        backoff = Backoff()
        while True:
            try:
                await self._list_if_lost()
                await self._follow(tasks, backoff)
            except _PlaceLostError as error:
                _log.info("watch of %s lists again: %s", self._prefix, error)
                self._placed = False
            except (StoreError, StreamBrokenError, TimeoutError) as error:
                _log.info("watch of %s: %s", self._prefix, str(error) or "silent")
            await backoff.wait()

    async def _list_if_lost(self) -> None:
        """Put a snapshot, unless the last place is good for the store as it is now."""
        if self._placed and await self._place_is_good():
            return
        known = self._revisions.restorations
        revision, entries = await self._kv.list(self._prefix)
        if self._revisions.restorations != known:
            raise _PlaceLostError("restored while it was listed")
        now = {entry.key: hash(entry) for entry in entries}
        unchanged = (entry.key for entry in entries if entry.mod_revision <= self._cursor)
        if known == self._restorations and any(now[k] != self._held.get(k) for k in unchanged):
            self._revisions.replaced()
        restored = self._restorations != self._revisions.restorations
        self._restorations = self._revisions.restorations
        self._cursor, self._held, self._placed = revision, now, True
        await self._updates.put(Snapshot(revision, entries, restored))

    async def _place_is_good(self) -> bool:
        """Ask the store for its past: is it the one that this watch has told of?"""
        await self._kv.check()
        if self._revisions.restorations == self._restorations:
            try:
                _, then = await self._kv.list(self._prefix, at=self._cursor)
            except Compacted:
                return False
            if {entry.key: hash(entry) for entry in then} != self._held:
                self._revisions.replaced()
        return self._revisions.restorations == self._restorations

    async def _follow(self, tasks: asyncio.TaskGroup, backoff: Backoff) -> None:
        """Pass on all changes after the place, until the stream breaks."""
        loop = asyncio.get_running_loop()
        endpoint = await self._channels.ready(loop.time() + DEFAULT_TIMEOUT_S)
        key, end = codec.key_range(self._prefix)
        create = wire.WatchCreateRequest(
            key=key,
            range_end=end,
            start_revision=self._cursor + 1,
            prev_kv=True,
            fragment=True,
        )
        self._parts.clear()
        self._ahead = False
        async with (
            open_stream(self._channels, endpoint, WATCH) as stream,
            asyncio.timeout(SILENCE_LIMIT_S) as self._silence,
            background(tasks, self._probe(stream), f"etcd watch probe {self._prefix}"),
        ):
            await stream.send(wire.WatchRequest(create_request=create))
            while True:
                response = await stream.receive()
                # A reader that is slow is no fault of the member.
                self._silence.reschedule(None)
                await self._take(response, backoff)
                self._silence.reschedule(loop.time() + SILENCE_LIMIT_S)

    async def _probe(self, stream: _Stream) -> None:
        """Ask for progress again and again; etcd answers once it has sent all that was before."""
        with suppress(StreamBrokenError):
            while True:
                await asyncio.sleep(PROGRESS_IDLE_S)
                if not (self._ahead and await self._nothing_new()):
                    await stream.send(_PROGRESS)

    async def _nothing_new(self) -> bool:
        """Find out by a read that the store has not changed since the place, and say so."""
        try:
            revision = await self._kv.check()
        except StoreError:
            return False
        if not self._ahead or revision > self._cursor or self._silence is None:
            return False
        if self._revisions.restorations != self._restorations:
            return False
        if self._updates.empty():
            self._updates.put_nowait(Changes(self._cursor))
        if self._silence.when() is not None:
            self._silence.reschedule(asyncio.get_running_loop().time() + SILENCE_LIMIT_S)
        return True

    async def _take(self, response: wire.WatchResponse, backoff: Backoff) -> None:
        if response.canceled:
            # Before `created`: a refused watch is created and canceled in one.
            if response.compact_revision:
                raise _PlaceLostError(f"compacted at {response.compact_revision}")
            raise StreamBrokenError(f"canceled by etcd: {response.cancel_reason}")
        if self._revisions.restorations != self._restorations:
            raise _PlaceLostError("the store was restored")
        if response.created:
            self._ahead = response.header.revision <= self._cursor
            return
        self._ahead = False
        backoff.reset()
        if response.watch_id == PROGRESS_WATCH_ID:
            await self._progress(response.header)
            return
        self._parts.extend(response.events)
        if self._parts and not response.fragment:
            changes = tuple(_change(event) for event in self._parts)
            for change in changes:
                if isinstance(change, Changed):
                    self._held[change.entry.key] = hash(change.entry)
                else:
                    self._held.pop(change.key, None)
            self._cursor = self._parts[-1].kv.mod_revision
            self._parts.clear()
            await self._updates.put(Changes(self._cursor, changes))

    async def _progress(self, header: wire.ResponseHeader) -> None:
        if self._revisions.suspicious(header):
            # A restored store, or only a follower that lags: a linearizable read tells.
            await self._kv.check()
            if self._revisions.restorations != self._restorations:
                raise _PlaceLostError("the store was restored")
        self._cursor = max(self._cursor, header.revision)
        if self._updates.empty():
            await self._updates.put(Changes(self._cursor))


def _change(event: wire.Event) -> Change:
    if event.type == wire.Event.DELETE:
        last = codec.entry(event.prev_kv) if event.HasField("prev_kv") else None
        return Removed(codec.name(event.kv.key), event.kv.mod_revision, last)
    return Changed(codec.entry(event.kv))
