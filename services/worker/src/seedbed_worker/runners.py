"""The tasks in which turns run.

A running turn has one task, which the host owns. But to make a task costs 2 µs, more than all the
rest of a dispatch, and most turns never wait for anything. So a task stands by, the runner: it
lends itself to one turn after the other, each in a context of its own. A turn that waits keeps the
task to its end as its own, and another one stands by.

`run_now` makes a turn's first step at once, within whatever task (or callback) asks for it, but
with the runner as the current task: what the turn finds by `asyncio.current_task()` is the task in
which it goes on, so time-outs and task groups work. Python 3.12 calls that an eager task. Measured
for a call on the worker's port: no turns of the loop between call and answer, 40 µs of 240 less.
"""

from __future__ import annotations

import asyncio

# Meant for whoever steps coroutines himself (the manual's page "Extending"), in spite of the names.
from asyncio.tasks import _enter_task as enter_task  # pyright: ignore[reportPrivateUsage]
from asyncio.tasks import _leave_task as leave_task  # pyright: ignore[reportPrivateUsage]
from collections import deque
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Protocol, TypeAlias

Work: TypeAlias = Coroutine[object, object, None]


class Runnable(Protocol):
    """A call whose turn may begin."""

    task: asyncio.Task[None] | None
    """Where it runs; set before its first step."""

    def run(self) -> Work: ...

    def suspended(self) -> None:
        """Its turn waits for something, for the first time."""
        ...


class _Runner:
    """A task that runs turns."""

    __slots__ = ("kept", "task", "wake")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.wake: asyncio.Future[None] | None = None
        """What it waits for while it stands by."""
        self.kept: _Started | None = None
        """A turn that it goes on with, to its end."""


class _Started:
    """A turn after its first step, and what it waits for."""

    __slots__ = ("awaited", "context", "turn")

    def __init__(self, turn: Work, context: Context, awaited: object) -> None:
        self.turn = turn
        self.context = context
        self.awaited = awaited


class Runners:
    """One for each host."""

    __slots__ = ("_context", "_loop", "_ready", "_runner", "_tasks")

    _loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._ready: deque[Runnable] = deque()
        self._runner = _Runner()
        self._tasks: asyncio.TaskGroup | None = None
        self._context = Context()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Run turns in children of this group, in the present context."""
        self._tasks = tasks
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()
        self._replace()

    def stop(self) -> None:
        """Begin no turn any more."""
        self._tasks = None
        self._ready.clear()
        self._wake()

    def spawn(self, work: Work) -> asyncio.Task[None]:
        """Start a task in the host's context and not in that of whoever asks for it."""
        if self._tasks is None:
            work.close()
            raise RuntimeError("the host does not run: start Host.run() first")
        return self._tasks.create_task(work, context=self._context.copy())

    def add(self, call: Runnable) -> None:
        """Run a turn, after those that are ready already."""
        self._ready.append(call)
        self._wake()

    def run_now(self, call: Runnable) -> None:
        """Run a turn before this returns, or its first step if it waits for something.

        If the runner is busy, since a turn itself asks or the last one keeps it, as `add` does.
        """
        runner = self._runner
        wake, task = runner.wake, runner.task
        if wake is None or task is None or wake.done():
            self.add(call)
            return
        runner.wake = None
        loop = self._loop
        asking = asyncio.current_task(loop)
        if asking is not None:
            leave_task(loop, asking)
        enter_task(loop, task)
        started: _Started | None = None
        try:
            started = self._first_step(call, task)
        finally:
            leave_task(loop, task)
            if asking is not None:
                enter_task(loop, asking)
            runner.wake = wake
            if started is not None:
                runner.kept = started
                self._replace()
            if (started is not None or self._ready) and not wake.done():
                wake.set_result(None)
        if started is not None:
            call.suspended()

    def _first_step(self, call: Runnable, task: asyncio.Task[None]) -> _Started | None:
        call.task = task
        turn = call.run()
        context = self._context.copy()
        try:
            return _Started(turn, context, context.run(turn.send, None))
        except StopIteration:
            return None

    def _replace(self) -> None:
        """The runner has another use: let a new one stand by."""
        if self._tasks is not None:
            self._runner = runner = _Runner()
            runner.task = self.spawn(self._run(runner))

    def _wake(self) -> None:
        wake = self._runner.wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    async def _run(self, runner: _Runner) -> None:
        task = asyncio.current_task()
        assert task is not None
        ready = self._ready
        try:
            while self._tasks is not None:
                for _ in range(len(ready)):
                    call = ready.popleft()
                    started = self._first_step(call, task)
                    if started is not None:
                        self._replace()
                        call.suspended()
                        await _rest(started)
                        return
                    if task.cancelling():  # by its own turn: the next one must not be hit
                        return
                if ready:  # since then; the loop first does what else there is
                    await asyncio.sleep(0)
                    continue
                runner.wake = self._loop.create_future()
                try:
                    await runner.wake
                except asyncio.CancelledError:
                    if runner.kept is None:
                        raise
                    # Meant for the turn, as far as it has come: so for what it waits for.
                    await _rest(runner.kept, cancelled=True)
                    return
                runner.wake = None
                if runner.kept is not None:
                    await _rest(runner.kept)
                    return
        finally:
            if self._runner is runner:
                self._replace()


@coroutine
def _rest(started: _Started, *, cancelled: bool = False) -> Generator[object, None, None]:
    """Go on with a turn, in its own context, as the task goes on that awaits this."""
    turn, context, awaited = started.turn, started.context, started.awaited
    try:
        if cancelled and not (isinstance(awaited, asyncio.Future) and awaited.cancel()):
            awaited = context.run(turn.throw, asyncio.CancelledError())
        while True:
            try:
                sent = yield awaited
            except BaseException as error:
                awaited = context.run(turn.throw, error)
            else:
                awaited = context.run(turn.send, sent)
    except StopIteration:
        return
