"""Which builds of the application are being retired while several serve the same type.

Theory. An update, a rollback and an autoscaler in the middle of either look alike: members of two
versions, and now and then one of them is told to leave. Version numbers do not say which one is to
stay (a rollback goes back), but being told to leave does. A version counts as being retired while
one of its members drains, and for a while after one was told to. What is given away goes to a
version that nobody was told to leave; if members of all were, to the one for which that is longest
ago: in an undo the old version was told before, the new one is being told now.

If every worker of the type sets a number as SEEDBED_APP_REVISION, the highest one is the one to
stay, and nothing needs to be remembered.

An order to drain counts for the workers that are there when it comes: one that starts on such a
node later is not there because of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seedbed.ids import Incarnation
from seedbed_seed.core.membership import Worker

RETIRING_NS = 600_000_000_000
"""A version counts as being retired this long after one of its members was told to drain."""


class Versions:
    """When members of each type's versions were last told to drain, as this seed saw it."""

    __slots__ = ("_draining", "_told_ns")

    def __init__(self) -> None:
        self._told_ns: dict[tuple[str, str], int] = {}
        self._draining: set[Incarnation] = set()

    def seen(self, worker: Worker, now_ns: int) -> None:
        """A worker's record was written: does it drain now?"""
        if worker.draining and worker.incarnation not in self._draining:
            self._draining.add(worker.incarnation)
            self.told(worker, now_ns)

    def told(self, worker: Worker, now_ns: int) -> None:
        """A worker has been told to drain."""
        for type_ in worker.types:
            self._told_ns[type_, worker.app_version] = now_ns

    def forget(self, workers: Iterable[Worker]) -> None:
        """Only these are left."""
        if self._draining:
            self._draining &= {worker.incarnation for worker in workers}

    def best(
        self,
        type_: str,
        candidates: Sequence[Worker],
        hosts: Sequence[Worker],
        draining: Sequence[Worker],
        now_ns: int,
    ) -> list[Worker]:
        """Those of the candidates whose version is to stay. `hosts` are all workers of the type,
        `draining` those of them that drain."""
        if not mixed(candidates):
            return list(candidates)
        if _ordered(hosts):
            highest = max(int(worker.app_revision) for worker in candidates)
            return [worker for worker in candidates if int(worker.app_revision) == highest]
        leaving = {worker.app_version for worker in draining}

        def told_ns(worker: Worker) -> int:
            at_ns = self._told_ns.get((type_, worker.app_version))
            lately = at_ns is not None and now_ns < at_ns + RETIRING_NS
            return at_ns if at_ns is not None and (lately or worker.app_version in leaving) else -1

        longest_ago = min(told_ns(worker) for worker in candidates)
        return [worker for worker in candidates if told_ns(worker) == longest_ago]


def mixed(workers: Iterable[Worker]) -> bool:
    """Are there several versions among them?"""
    return len({(worker.app_version, worker.app_revision) for worker in workers}) > 1


def _ordered(workers: Iterable[Worker]) -> bool:
    return all(
        worker.app_revision.isascii() and worker.app_revision.isdecimal() for worker in workers
    )
