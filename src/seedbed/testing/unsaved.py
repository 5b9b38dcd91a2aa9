"""Watches for a change of state that its turn forgot to save, by comparing what would be stored.

A turn that emits events must have changed the state by them alone: what they make of the state
before it is compared with the state after it. Only in tests: it serialises each state twice a turn.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import wraps
from typing import NamedTuple

from google.protobuf.message import Message

from seedbed.adapters import EntityContext
from seedbed.entity import AnyEntity
from seedbed.errors import StateError
from seedbed.testing.restored import restored
from seedbed.testing.warning import UnsavedChange, warn
from seedbed.turn import CURRENT
from seedbed_worker.contents import deletes
from seedbed_worker.emitted import Emitted
from seedbed_worker.hosted import HostedClass, HostedMethod
from seedbed_worker.jobs import Job
from seedbed_worker.journal.port import History
from seedbed_worker.record_codec import Part, pack


class Watch:
    """Of one cluster: warns once for each method."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def over(self, hosted: HostedClass) -> HostedClass:
        """The same class, watched. A volatile one loses nothing by not saving, so it is not."""
        if not hosted.durable:
            return hosted
        return replace(
            hosted,
            methods={path: self._method(hosted, method) for path, method in hosted.methods.items()},
        )

    def _method(self, hosted: HostedClass, method: HostedMethod) -> HostedMethod:
        name = f"{hosted.cls.__qualname__}.{method.contract.name}"

        def check(entity: AnyEntity, before: _Mark) -> None:
            # With another seq something was kept meanwhile, of this turn or of others.
            after = _mark(hosted, entity)
            if (
                after != before
                and after.seq == before.seq
                and not _explained(hosted, after, before)
            ):
                self._warn(name, hosted, read_only=method.contract.read_only)

        unary, stream = method.unary, method.stream
        if unary is not None:

            @wraps(unary)  # so that errors name the user's lines
            async def watched(
                entity: AnyEntity, request: Message, context: EntityContext
            ) -> object:
                before = _mark(hosted, entity)
                reply = await unary(entity, request, context)
                if context.aborted is None:
                    check(entity, before)
                return reply

            return replace(method, unary=watched)
        if stream is not None:

            @wraps(stream)
            async def watched_stream(
                entity: AnyEntity, request: Message, context: EntityContext
            ) -> AsyncGenerator[object]:
                async with aclosing(stream(entity, request, context)) as items:
                    before = _mark(hosted, entity)
                    async for item in items:
                        check(entity, before)
                        yield item
                        before = _mark(hosted, entity)

            return replace(method, stream=watched_stream)
        return method

    def _warn(self, name: str, hosted: HostedClass, *, read_only: bool) -> None:
        if name in self._warned:
            return
        self._warned.add(name)
        what = "is read-only and changed the state" if read_only else "changed the state"
        how = "emit()" if hosted.events else "save()"
        text = f"{name} {what} without {how}: it is lost when the entity leaves memory"
        warn(text, UnsavedChange)


class _Mark(NamedTuple):
    """What is kept of the entity, and what would be if it were saved now."""

    key: str
    seq: int
    state: Part | None
    """None: `save` says what is wrong with it."""


def _mark(hosted: HostedClass, entity: AnyEntity) -> _Mark:
    assert hosted.stored is not None, "it is durable"
    try:
        state = hosted.stored.write_state(entity.state)
    except StateError:
        state = None
    return _Mark(entity.seedbed_key, entity.seedbed_seq, state)


def _explained(hosted: HostedClass, after: _Mark, before: _Mark) -> bool:
    """Does this turn keep what it has changed (or drop all)?"""
    job = CURRENT.get()
    change = job.change if isinstance(job, Job) else None
    if change is None or deletes(change) or not isinstance(change, Emitted):
        return change is not None
    if before.state is None or after.state is None or change.failure is not None:
        return True  # the turn will fail
    assert hosted.stored is not None
    events = pack([part for part in change.parts if part is not None])
    history = History(before.seq + 1, True, pack([before.state]), (events,))
    return hosted.stored.write_state(restored(hosted, after.key, history)) == after.state
