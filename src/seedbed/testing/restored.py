"""What an entity's state is when it is read from the store, without an entity of the cluster."""

from __future__ import annotations

from seedbed_worker.contents import Contents
from seedbed_worker.hosted import HostedClass
from seedbed_worker.journal.port import History


def restored(hosted: HostedClass, key: str, found: History | None) -> object:
    """The state that this history of a durable entity comes to. Raises `StateError`."""
    entity = hosted.factory()
    entity.seedbed_key = key
    Contents(hosted).restore(entity, found)
    return entity.state
