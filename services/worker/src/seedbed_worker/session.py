"""The worker's membership: a thread of its own keeps the Register stream and the lease.

The decisions are `core.session`'s; here are the thread, the clock and the streams. The loop is told
by `call_soon_threadsafe`, and may stand still without harm to the lease, up to a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import random
import threading
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import assert_never

from seedbed.clock import Clock
from seedbed.ids import Epoch, Incarnation
from seedbed.tls import TlsFiles
from seedbed_worker.binding import Welcomed
from seedbed_worker.core import session_events as ev
from seedbed_worker.core import session_messages as msg
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.core.seeds import SeedBook
from seedbed_worker.core.session import SessionCore
from seedbed_worker.journal.port import Whose
from seedbed_worker.session_news import SessionEvents
from seedbed_worker.session_stream import SeedStream
from seedbed_worker.session_wire import Identity, LoadSummary, hello, to_seed

log = logging.getLogger(__name__)

POLL_S = 0.25
"""How often the thread looks at the loop's lag when nothing else happens."""
BURST = 64
"""Events handled before the timers are looked at, however many wait."""
EPOCH_REPORTS = 1000
"""Events waiting above which reports of higher epochs are dropped (routers cause them again)."""

SAY_AGAIN_NS = 10_000_000_000
"""While no seed takes the worker, the log says so this often."""


class Session:
    """Runs from `run` until `leave` is done. Its attributes may be read from any thread."""

    def __init__(
        self,
        *,
        identity: Identity,
        seeds: Sequence[str],
        region: Region,
        clock: Clock,
        events: SessionEvents,
        load: Callable[[], LoadSummary],
        loop_lag_ns: Callable[[], int],
        loop_stall_limit_ns: int,
        tls: TlsFiles | None = None,
        authority: str = "",
        whose: Callable[[], Whose] | None = None,
    ) -> None:
        """`whose` is asked about the worker's journal, if it has one, on the session's thread."""
        self._identity = identity
        self._clock = clock
        self._events = events
        self._load = load
        self._loop_lag_ns = loop_lag_ns
        self._loop_stall_limit_ns = loop_stall_limit_ns
        self._tls = tls
        self._authority = authority
        self._whose = whose
        self._core = SessionCore(
            seeds=SeedBook(seeds, random.random),
            region=region,
            chance=random.random,
            new_id=lambda: uuid.uuid4().hex,
            binds=whose is not None,
        )
        self._loop = asyncio.get_running_loop()
        self._left: asyncio.Future[bool] = self._loop.create_future()
        self._inbox: queue.SimpleQueue[ev.Event] = queue.SimpleQueue()
        self._streams: dict[int, SeedStream] = {}
        self._done = False
        self._stalled = False
        self._refusal: str = ""
        self._say_again_ns = 0
        self.problem: str = "no seed has answered yet"
        """Why the worker is no member; empty while it is one."""

    @property
    def lease(self) -> Lease | None:
        """Of the newest welcomed incarnation."""
        return self._core.lease

    @property
    def tables_loaded(self) -> bool:
        """The tables have come since this incarnation said Hello."""
        return self._core.tables_seen

    @property
    def may_be_given(self) -> bool:
        """This incarnation's record says UP: the seeds may give it shards."""
        return self._core.may_be_given

    @property
    def skew_ms(self) -> int:
        """The seeds' wall clock less ours."""
        return self._core.skew_ms

    async def run(self) -> None:
        """Keep the session until it has left; raises whatever ended its thread."""
        threading.Thread(target=self._main, name="session", daemon=True).start()
        await asyncio.shield(self._left)

    def drain(self) -> None:
        """Tell the seed to give this worker nothing more, and others what it has."""
        self._inbox.put(ev.DrainOrdered())

    def bound(self, incarnation: Incarnation) -> None:
        """The journal has taken the cluster that welcomed this incarnation."""
        self._inbox.put(ev.Bound(incarnation))

    def releases_changed(self) -> None:
        """The region has released shards: tell the seed."""
        self._inbox.put(ev.ReleasesChanged())

    async def leave(self, limit_s: float) -> bool:
        """Fence, say goodbye, wait for the seed's farewell; False if it did not come in time."""
        self._inbox.put(ev.LeaveOrdered(self._clock.now_ns() + int(limit_s * 1e9)))
        return await asyncio.shield(self._left)

    def epoch_met(self, type_: str, shard: int, epoch: Epoch) -> None:
        """A router showed a higher epoch than the newest table."""
        if self._inbox.qsize() < EPOCH_REPORTS:
            self._inbox.put(ev.EpochMet(type_, shard, epoch))

    # The thread.

    def _main(self) -> None:
        try:
            self._carry_out(self._core.start(self._clock.now_ns()))
            while not self._done:
                self._step()
        except BaseException as error:
            # Nobody renews any more, so nobody may go on as if.
            self._core.region.fence()
            if self._core.lease is not None:
                self._core.lease.fence()
            self._in_loop(partial(self._fail, error))
        finally:
            for stream in self._streams.values():
                stream.close()

    def _step(self) -> None:
        """Wait for what comes next, handle what is there, then do what time makes due."""
        wake_ns = self._core.wake_at_ns()
        wait_s = POLL_S
        if wake_ns is not None:
            wait_s = min(wait_s, max(0.0, (wake_ns - self._clock.now_ns()) / 1e9))
        with contextlib.suppress(queue.Empty):
            self._handle(self._inbox.get(timeout=wait_s))
            for _ in range(BURST):
                self._handle(self._inbox.get_nowait())
        stalled = self._loop_lag_ns() > self._loop_stall_limit_ns
        if stalled != self._stalled:
            self._stalled = stalled
            log.error("loop stalled" if stalled else "loop runs again")
            self._handle(ev.StallChanged(stalled))
        self._carry_out(self._core.tick(self._clock.now_ns()))

    def _handle(self, item: ev.Event) -> None:
        self._carry_out(self._core.handle(item, self._clock.now_ns()))
        if isinstance(item, ev.Said) and (stream := self._streams.get(item.stream)) is not None:
            stream.handled()
        elif isinstance(item, ev.Ended):
            self._streams.pop(item.stream, None)

    def _carry_out(self, commands: Sequence[ev.Command]) -> None:
        for command in commands:
            match command:
                case ev.Open(number, address, message):
                    whose = self._whose() if self._whose is not None else None
                    self._streams[number] = SeedStream(
                        number,
                        address,
                        hello(self._identity, message, whose),
                        post=self._inbox.put,
                        clock=self._clock,
                        tls=self._tls,
                        authority=self._authority,
                    )
                case ev.Send(number, message):
                    if (stream := self._streams.get(number)) is not None:
                        load = self._load() if isinstance(message, msg.Beat) else LoadSummary()
                        stream.send(to_seed(message, load))
                case ev.Close(number):
                    if (stream := self._streams.pop(number, None)) is not None:
                        stream.close()
                case _:
                    self._tell(command)

    def _tell(
        self,
        news: ev.TellWelcomed
        | ev.TellUp
        | ev.TellMayBeGiven
        | ev.TellTables
        | ev.TellFenced
        | ev.TellResumed
        | ev.TellRefused
        | ev.TellLost
        | ev.TellSearching
        | ev.TellLeft,
    ) -> None:
        match news:
            case ev.TellWelcomed(incarnation, cluster_uid, shard_counts):
                welcomed = Welcomed(incarnation, cluster_uid, shard_counts)
                self._in_loop(lambda: self._events.welcomed(welcomed))
            case ev.TellUp():
                self._tell_up(news)
            case ev.TellMayBeGiven():
                self._in_loop(self._events.may_be_given)
            case ev.TellTables():
                self._in_loop(self._events.tables_changed)
            case ev.TellFenced():
                self._tell_fenced(news)
            case ev.TellResumed(incarnation, address):
                log.info("lease resumed", extra=self._who(incarnation) | {"seed": address})
            case ev.TellRefused():
                self._tell_refused(news)
            case ev.TellLost(address, why):
                log.warning("seed lost", extra={"seed": address, "why": why})
            case ev.TellSearching():
                self._tell_searching(news)
            case ev.TellLeft(farewell):
                log.info(
                    "worker left", extra={"node": self._identity.node_id, "farewell": farewell}
                )
                self.problem = "left"
                self._done = True
                self._in_loop(lambda: self._finish(farewell))
            case _:
                assert_never(news)

    def _tell_up(self, news: ev.TellUp) -> None:
        log.info("worker up", extra=self._who(news.incarnation) | {"seed": news.address})
        self.problem = self._refusal = ""
        if (lease := self._core.lease) is not None:
            self._in_loop(lambda: self._events.up(lease))

    def _tell_fenced(self, news: ev.TellFenced) -> None:
        log.warning("worker fenced", extra=self._who(news.incarnation) | {"why": news.why})
        self.problem = f"fenced: {news.why}"

        def fence() -> None:
            self._events.fenced(news.why)
            self._inbox.put(ev.Dropped(news.incarnation))

        self._in_loop(fence)

    def _tell_searching(self, news: ev.TellSearching) -> None:
        if not self._core.up and not self._refusal:
            self.problem = f"no seed has taken this worker; last tried {news.address}: {news.why}"
        now_ns = self._clock.now_ns()
        if now_ns >= self._say_again_ns:
            self._say_again_ns = now_ns + SAY_AGAIN_NS
            log.warning("no seed yet", extra={"seed": news.address, "why": news.why})

    def _tell_refused(self, news: ev.TellRefused) -> None:
        refusal = f"{news.reason}: {news.message}"
        if refusal != self._refusal:
            log.error(
                "worker refused",
                extra={"seed": news.address, "reason": news.reason, "refusal": news.message},
            )
        self.problem = self._refusal = refusal
        self._in_loop(lambda: self._events.refused(news.reason, news.message))

    def _who(self, incarnation: str) -> dict[str, str]:
        return {"node": self._identity.node_id, "incarnation": incarnation}

    # In the loop.

    def _in_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody to tell
            self._loop.call_soon_threadsafe(call)

    def _finish(self, farewell: bool) -> None:
        if not self._left.done():
            self._left.set_result(farewell)

    def _fail(self, error: BaseException) -> None:
        if not self._left.done():
            self._left.set_exception(error)
