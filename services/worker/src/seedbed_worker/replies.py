"""What a method gives, as the bytes that leave; what is no reply is refused with the place."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from seedbed.errors import CallError, Reason
from seedbed_worker.answers import WrongReply
from seedbed_worker.places import function_place

if TYPE_CHECKING:
    from seedbed_worker.jobs import Job  # a job serialises its replies


def serialise(job: Job, reply: object) -> bytes:
    """A reply or item as bytes; raises `WrongReply` or `CallError`."""
    response = job.method.response
    if not isinstance(reply, response):
        verb = "yielded" if job.streaming else "returned"
        text = f"{job.call.method} {verb} {_named(reply)}, expected {response.DESCRIPTOR.full_name}"
        raise WrongReply(text, place=function_place(job.method.stream or job.method.unary))
    data = reply.SerializeToString()
    limit = job.home.rt.limits.max_message_bytes
    if len(data) > limit:
        raise CallError(
            Reason.TOO_LARGE,
            f"the reply of {job.call.method} has {len(data)} bytes, more than"
            f" SEEDBED_MAX_MESSAGE_BYTES ({limit}); do not retry",
        )
    return data


def _named(reply: object) -> str:
    """What it is; if its `await` was forgotten, that, and it is given up."""
    name = type(reply).__name__
    if inspect.iscoroutine(reply):
        name = f"coroutine {reply.__qualname__}()"
        reply.close()
    elif hasattr(reply, "__await__"):
        cancel: object = getattr(reply, "cancel", None)
        if callable(cancel):
            cancel()  # a task, a future or a call on its way: nobody will ever wait for it
    else:
        return name
    return f"{name} (write `await` before it)"
