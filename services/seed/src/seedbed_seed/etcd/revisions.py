"""Notices a restored store.

By itself: a linearizable answer from below the highest revision ever seen, or by another cluster. A
watch notices one whose revisions have passed that by the past it holds (`replaced`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from seedbed_seed.etcd.wire_pb2 import ResponseHeader

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """What was known when a request left: its answer cannot be older, in the same store."""

    restorations: int
    revision: int


class Revisions:
    """The highest revision seen, and how often the store turned out to be another one.

    Only answers of linearizable requests count: a follower that lags says lower revisions too.
    """

    def __init__(self) -> None:
        self.restorations = 0
        self._revision = 0
        self._cluster_id: int | None = None

    def mark(self) -> Mark:
        """Return what is known now; taken before a request is sent."""
        return Mark(self.restorations, self._revision)

    def suspicious(self, header: ResponseHeader) -> bool:
        """Tell whether an answer that proves nothing by itself calls for a linearizable read."""
        return header.revision < self._revision or self._cluster_id not in (None, header.cluster_id)

    def observe(self, header: ResponseHeader, mark: Mark) -> None:
        """Take the header of a linearizable answer to a request sent after `mark`."""
        if mark.restorations != self.restorations:
            return
        other = self._cluster_id not in (None, header.cluster_id)
        if header.revision >= mark.revision and not other:
            self._cluster_id = header.cluster_id
            self._revision = max(self._revision, header.revision)
            return
        _log.warning(
            "etcd was restored: revision %d, seen before %d, %s cluster id",
            header.revision,
            mark.revision,
            "another" if other else "same",
        )
        self.restorations += 1
        self._cluster_id = header.cluster_id
        self._revision = header.revision

    def replaced(self) -> None:
        """The store turned out to be another one, at a revision that says nothing."""
        _log.warning("etcd was restored: the past that it holds is another one")
        self.restorations += 1
