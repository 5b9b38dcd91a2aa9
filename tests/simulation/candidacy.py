"""A seed's place in the election: the oldest candidate leads, as long as its lease lives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.kernel import SECOND
from tests.simulation.store import Entry, Guard

if TYPE_CHECKING:  # a seed has its candidacy
    from tests.simulation.seed import SimSeed

SEED_TTL_NS = 3 * SECOND
ELECTION = "election/"


class Candidacy:
    """Stands again whenever its lease is lost, or the store was restored."""

    def __init__(self, seed: SimSeed) -> None:
        self._seed = seed
        self._key = ""
        self._lease = 0

    def stand(self) -> None:
        """Resign, if this seed is a candidate, and be the youngest one."""
        seed, old = self._seed, self._lease
        self._key, self._lease = "", 0

        def enter() -> int:
            seed.store.revoke(old)
            lease = seed.store.grant(SEED_TTL_NS)
            seed.store.write({f"{ELECTION}{lease}": (seed.name, lease)})
            return lease

        def entered(lease: int | None) -> None:
            if lease is None:
                seed.kernel.after(SECOND, seed.process, self._stand_again)
            elif not self._key:
                self._lease, self._key = lease, f"{ELECTION}{lease}"
                self._keep(lease)

        seed.client.ask(enter, entered)

    def leads(self, entries: Mapping[str, Entry]) -> bool:
        candidates = [key for key in entries if key.startswith(ELECTION)]
        first = min(candidates, key=lambda key: entries[key].create_revision, default="")
        return bool(first) and first == self._key

    def guard(self, entries: Mapping[str, Entry]) -> Guard:
        """A leader whose watch has shown the end of its own candidacy is not one."""
        entry = entries.get(self._key)
        return Guard(self._key, create=entry.create_revision if entry else -1)

    def _stand_again(self) -> None:
        if not self._key:
            self.stand()

    def _keep(self, lease: int) -> None:
        if lease != self._lease:
            return

        def kept(ttl_ns: int | None) -> None:
            if ttl_ns == 0 and lease == self._lease:
                self.stand()
            else:
                self._seed.kernel.after(SECOND, self._seed.process, partial(self._keep, lease))

        self._seed.client.ask(lambda: self._seed.store.renew(lease, SEED_TTL_NS), kept)
