"""A lane: one connection at a time, which does what it is asked one after another.

Nobody cancels what it does: a driver passes a cancellation on to the server, which may then answer
"done" without having waited for its standby. What takes too long loses its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from seedbed_worker.journal.port import InDoubt, JournalError, Unavailable
from seedbed_worker.journal.postgres_errors import meaning
from seedbed_worker.journal.postgres_session import Session

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 2.0
"""Between two attempts to connect; doubled each time."""
PATIENCE_S = 0.25
"""So long a request waits for the next attempt; what comes earlier fails as the last one did, so
that callers know at once and do not pile up."""


@dataclass(frozen=True, slots=True)
class _Request:
    work: Callable[[Session], Awaitable[object]]
    answer: asyncio.Future[Any]
    """Of whoever asked, who may have gone."""

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Lane:
    """`limit_s`: how long one request may take, in seconds."""

    def __init__(self, connect: Callable[[], Awaitable[Session]], *, limit_s: float) -> None:
        self._connect = connect
        self._limit_s = limit_s
        self._requests = asyncio.Queue[_Request | None]()
        self._session: Session | None = None
        self._open = False
        self._pause_s = 0.0
        self._connect_at = 0.0
        self._refusal: JournalError = Unavailable("it has not been tried yet")
        """Why the last attempt failed."""

    def ask(self, work: Callable[[Session], Awaitable[T]]) -> asyncio.Future[T]:
        """The future of what `work` returns or raises: `JournalError`, or what is no fault of
        PostgreSQL. Cancelled before it has begun, it never begins; later, it ends in its own time.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        request = _Request(work, answer)
        if self._open:
            self._requests.put_nowait(request)
        else:
            request.fail(Unavailable("the journal is not open"))
        return answer

    def start(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Take requests, until `close`, and do them one after another."""
        self._open = True
        return tasks.create_task(self._run(), name="journal lane")

    def close(self) -> None:
        """End when all is done that was asked."""
        if self._open:
            self._open = False
            self._requests.put_nowait(None)

    def abort(self) -> None:
        """Wait no longer for what is being done: it is in doubt."""
        if self._session is not None:
            self._session.connection.terminate()

    async def _run(self) -> None:
        while (request := await self._requests.get()) is not None:
            if request.answer.done():
                continue
            try:
                session = await self._connected()
            except JournalError as error:
                self._fail_all(request, error)
            else:
                await self._do(request, session)
        self._drop()

    async def _connected(self) -> Session:
        if self._session is not None and not self._session.connection.is_closed():
            return self._session
        loop = asyncio.get_running_loop()
        pause_s = self._connect_at - loop.time()
        if pause_s > PATIENCE_S:
            raise Unavailable(str(self._refusal))
        await asyncio.sleep(pause_s)
        try:
            self._session = await self._connect()
        except JournalError as error:
            self._refusal = error
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LAST_PAUSE_S)
            self._connect_at = loop.time() + self._pause_s
            raise
        self._pause_s = 0.0
        return self._session

    def _fail_all(self, request: _Request, error: JournalError) -> None:
        """Those behind it too: each would only wait for another attempt."""
        request.fail(error)
        for _ in range(self._requests.qsize()):
            waiting = self._requests.get_nowait()
            if waiting is None:
                self._requests.put_nowait(None)
            else:
                waiting.fail(error)

    async def _do(self, request: _Request, session: Session) -> None:
        late = False

        def end() -> None:
            nonlocal late
            late = True
            session.connection.terminate()

        limit = asyncio.get_running_loop().call_later(self._limit_s, end)
        try:
            done = await request.work(session)
        except Exception as error:
            found = meaning(error)
            if late and isinstance(found, InDoubt):
                found = InDoubt(f"PostgreSQL has not answered within {self._limit_s:g} s")
            request.fail(found)
            if not isinstance(found, JournalError) or isinstance(found, InDoubt | Unavailable):
                self._drop()  # another connection, or server, may do better
        else:
            if not request.answer.done():
                request.answer.set_result(done)
        finally:
            limit.cancel()

    def _drop(self) -> None:
        if self._session is not None:
            self._session.connection.terminate()
            self._session = None
