"""Watches for a change of state that its turn forgot to save, by comparing what would be stored.

Only in tests: it serialises each state twice a turn.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import wraps

from google.protobuf.message import Message

from seedbed.adapters import EntityContext
from seedbed.entity import AnyEntity
from seedbed.errors import StateError
from seedbed.testing.warning import UnsavedChange, warn
from seedbed.turn import CURRENT
from seedbed_worker.hosted import HostedClass, HostedMethod
from seedbed_worker.jobs import Job
from seedbed_worker.state_codec import StateCodec, codec_of


class Watch:
    """Of one cluster: warns once for each method."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def over(self, hosted: HostedClass) -> HostedClass:
        """The same class, watched. A volatile one loses nothing by not saving, so it is not."""
        if not hosted.durable:
            return hosted
        codec = codec_of(hosted.state)
        return replace(
            hosted,
            methods={
                path: self._method(hosted, method, codec) for path, method in hosted.methods.items()
            },
        )

    def _method(self, hosted: HostedClass, method: HostedMethod, codec: StateCodec) -> HostedMethod:
        name = f"{hosted.cls.__qualname__}.{method.contract.name}"

        def check(entity: AnyEntity, before: tuple[int, bytes]) -> None:
            # With another seq something was kept meanwhile, of this turn or of others.
            if _mark(entity, codec) != before and entity.seedbed_seq == before[0] and not _asked():
                self._warn(name, read_only=method.contract.read_only)

        unary, stream = method.unary, method.stream
        if unary is not None:

            @wraps(unary)  # so that errors name the user's lines
            async def watched(
                entity: AnyEntity, request: Message, context: EntityContext
            ) -> object:
                before = _mark(entity, codec)
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
                    before = _mark(entity, codec)
                    async for item in items:
                        check(entity, before)
                        yield item
                        before = _mark(entity, codec)

            return replace(method, stream=watched_stream)
        return method

    def _warn(self, name: str, *, read_only: bool) -> None:
        if name in self._warned:
            return
        self._warned.add(name)
        what = "is read-only and changed the state" if read_only else "changed the state"
        text = f"{name} {what} without save(): it is lost when the entity leaves memory"
        warn(text, UnsavedChange)


def _asked() -> bool:
    """Has this turn asked for its state to be kept (or dropped)?"""
    job = CURRENT.get()
    return isinstance(job, Job) and job.change is not None


def _mark(entity: AnyEntity, codec: StateCodec) -> tuple[int, bytes]:
    """What is kept of the entity, and what would be if it were saved now."""
    try:
        return entity.seedbed_seq, codec.encode(entity.state)
    except StateError:
        return entity.seedbed_seq, b""  # `save` says what is wrong with it
