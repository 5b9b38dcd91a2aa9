"""How a worker's Hello is taken by a seed: as a new member, or as one that goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from seedbed_seed.core.membership import Status, Worker
from seedbed_worker.core import session_messages as msg
from tests.simulation.calls import TTL_NS
from tests.simulation.keys import MEMBERS, ROLE, worker_of
from tests.simulation.store import Entry, Guard

if TYPE_CHECKING:  # a seed takes Hellos
    from tests.simulation.seed import SimSeed
    from tests.simulation.streams import Stream


class Joining:
    """Of one life of a seed."""

    def __init__(self, seed: SimSeed) -> None:
        self._seed = seed
        self._client = seed.client

    def hello(self, stream: Stream, hello: msg.Hello) -> None:
        """Somebody wants to register."""
        key = MEMBERS + stream.worker.node_id

        def read(entries: list[Entry] | None) -> None:
            if entries is None:
                stream.down.send(None)
            elif hello.resume is not None:
                self._resume(stream, hello, next(iter(entries), None))
            else:
                self._enter(stream, hello, next(iter(entries), None))

        self._client.ask(lambda: self._seed.store.under(key), read)

    def _resume(self, stream: Stream, hello: msg.Hello, entry: Entry | None) -> None:
        worker = worker_of(entry) if entry is not None else None
        named = worker is not None and worker.incarnation == hello.incarnation
        if entry is None or worker is None or not named or worker.status is Status.LEFT:
            stream.down.send(msg.Refused("FENCED", "gone"))
            return
        key = MEMBERS + worker.node_id
        record = replace(worker, stream_id=hello.stream_id, silent_age_ns=None)

        def written(revision: int | None) -> None:
            if revision:
                self._seed.attendance.welcome(
                    stream, hello.incarnation, worker.node_id, entry.lease
                )
            else:
                stream.down.send(None)

        guards = [Guard(key, modified=entry.mod_revision)]
        self._client.write({key: (record, entry.lease)}, guards, written)

    def _enter(self, stream: Stream, hello: msg.Hello, entry: Entry | None) -> None:
        """Every worker has a fixed address, so a newcomer there proves that the old one is gone."""
        seed, node_id = self._seed, stream.worker.node_id
        old = worker_of(entry) if entry is not None else None
        record = Worker(
            node_id=node_id,
            incarnation=hello.incarnation,
            host=node_id,
            port=stream.worker.port,
            ttl_ns=TTL_NS,
            roles=frozenset({ROLE}),
            types=seed.world.types,
            app_version=stream.worker.version,
            stream_id=hello.stream_id,
            replaced=old.incarnation if old is not None else "",
        )
        key = MEMBERS + node_id

        def create() -> int:
            if entry is not None:
                seed.store.revoke(entry.lease)
            lease = seed.store.grant(TTL_NS)
            made = seed.store.write({key: (record, lease)}, [Guard(key, create=0)])
            return lease if made else 0

        def created(lease: int | None) -> None:
            if lease:
                seed.attendance.welcome(stream, hello.incarnation, node_id, lease)
            else:
                stream.down.send(None)

        self._client.ask(create, created)
