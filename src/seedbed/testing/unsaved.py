"""Watches for a change of state that its turn forgot to save, by comparing what would be stored.

Only in tests: it serialises each state twice a turn.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import grpc
from google.protobuf.message import Message

from seedbed.abort import Abort
from seedbed.adapters import EntityContext
from seedbed.entity import AnyEntity
from seedbed.errors import StateError
from seedbed.testing.warning import UnsavedChange
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
        if not hosted.declared_durable:
            return hosted
        codec = codec_of(hosted.state)
        return replace(
            hosted,
            methods={
                path: self._method(hosted, method, codec) for path, method in hosted.methods.items()
            },
        )

    def _method(self, hosted: HostedClass, method: HostedMethod, codec: StateCodec) -> HostedMethod:
        unary = method.unary
        if unary is None:
            return method
        name = f"{hosted.cls.__qualname__}.{method.contract.name}"

        async def watched(entity: AnyEntity, request: Message, context: EntityContext) -> object:
            before, seq = _bytes_of(entity, codec), entity.seedbed_seq
            reply = await unary(entity, request, context)
            # A new seq: it has left its turn in between, and kept something then.
            quiet = entity.seedbed_seq == seq and context.aborted is None and not _asked()
            if quiet and _bytes_of(entity, codec) != before:
                self._warn(name, read_only=method.contract.read_only)
            return reply

        return replace(method, unary=watched)

    def _warn(self, name: str, *, read_only: bool) -> None:
        if name in self._warned:
            return
        self._warned.add(name)
        what = "is read-only and changed the state" if read_only else "changed the state"
        text = f"{name} {what} without save(): it is lost when the entity leaves memory"
        try:
            warnings.warn(text, UnsavedChange, stacklevel=1)
        except UnsavedChange as error:
            # Warnings are errors here: so that the test sees the text, and not only a class name.
            raise Abort(grpc.StatusCode.INTERNAL, str(error)) from None


def _asked() -> bool:
    """Has this turn asked for its state to be kept (or dropped)?"""
    job = CURRENT.get()
    return isinstance(job, Job) and job.change is not None


def _bytes_of(entity: AnyEntity, codec: StateCodec) -> bytes:
    try:
        return codec.encode(entity.state)
    except StateError:
        return b""  # `save` says what is wrong with it
