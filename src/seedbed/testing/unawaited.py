"""Watches for calls to other entities whose `await` was forgotten."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps

from google.protobuf.message import Message

from seedbed.adapters import EntityContext
from seedbed.entity import AnyEntity
from seedbed.testing.warning import NeverAwaited, warn
from seedbed.turn import CURRENT
from seedbed_worker.hosted import HostedClass, HostedMethod
from seedbed_worker.jobs import Job


def awaiting(hosted: HostedClass) -> HostedClass:
    """The same class, whose unary methods are watched."""
    methods = {path: _watched(hosted, method) for path, method in hosted.methods.items()}
    return replace(hosted, methods=methods)


def _watched(hosted: HostedClass, method: HostedMethod) -> HostedMethod:
    unary = method.unary
    if unary is None:
        return method

    @wraps(unary)  # so that errors name the user's lines
    async def watched(entity: AnyEntity, request: Message, context: EntityContext) -> object:
        reply = await unary(entity, request, context)
        job = CURRENT.get()
        calls = job.onward if isinstance(job, Job) else None
        forgotten = calls.forgotten() if calls is not None else None
        if forgotten is not None and forgotten is not reply:  # that is a reply of a wrong type
            name = f"{hosted.cls.__qualname__}.{method.contract.name}"
            warn(f"{name} called {forgotten.path} and never awaited it", NeverAwaited)
        return reply

    return replace(method, unary=watched)
