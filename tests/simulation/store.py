"""A store with etcd's semantics: revisions, guarded transactions, leases that end, ordered watches.

Its own timers are exact, and a lease may end up to a second late, as etcd's do. Every table that is
written passes the check that generations and epochs only rise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from seedbed.routing import ShardTable
from seedbed_seed.core.membership import Worker
from tests.simulation.kernel import SECOND, Channel, Kernel, Violation

Value: TypeAlias = Worker | ShardTable | str


@dataclass(frozen=True, slots=True)
class Entry:
    value: Value
    create_revision: int
    mod_revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Update:
    """What a watch delivers: all there is, or the keys that one revision changed (None: gone)."""

    revision: int
    entries: Mapping[str, Entry | None]
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """The key's create (or mod) revision is this; with `equal=False`, is not."""

    key: str
    create: int | None = None
    modified: int | None = None
    equal: bool = True


class Store:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.revision = 1
        self.entries: dict[str, Entry] = {}
        self._ends_ns: dict[int, int] = {}
        self._leases = 0
        self._watches: list[Channel[Update]] = []

    def watch(self, channel: Channel[Update]) -> None:
        channel.send(Update(self.revision, dict(self.entries), snapshot=True))
        self._watches.append(channel)

    def unwatch(self, channel: Channel[Update]) -> None:
        channel.close()
        self._watches.remove(channel)

    def write(
        self,
        puts: Mapping[str, tuple[Value, int]],
        guards: Sequence[Guard] = (),
        deletes: Sequence[str] = (),
    ) -> int:
        """Revision of the write; 0 if a guard did not hold or a lease has ended."""
        if not all(self.holds(guard) for guard in guards):
            return 0
        if any(lease and lease not in self._ends_ns for _, lease in puts.values()):
            return 0
        self.revision += 1
        changes: dict[str, Entry | None] = {}
        for key, (value, lease) in puts.items():
            old = self.entries.get(key)
            created = old.create_revision if old is not None else self.revision
            if isinstance(value, ShardTable):
                _check_rise(old.value if old is not None else None, value)
                value = replace(value, revision=self.revision)
            changes[key] = self.entries[key] = Entry(value, created, self.revision, lease)
        for key in deletes:
            if self.entries.pop(key, None) is not None:
                changes[key] = None
        self._tell(changes)
        return self.revision

    def holds(self, guard: Guard) -> bool:
        entry = self.entries.get(guard.key)
        created, modified = (entry.create_revision, entry.mod_revision) if entry else (0, 0)
        same = modified == guard.modified if guard.create is None else created == guard.create
        return same == guard.equal

    def under(self, prefix: str) -> list[Entry]:
        return [entry for key, entry in self.entries.items() if key.startswith(prefix)]

    def grant(self, ttl_ns: int) -> int:
        self._leases += 1
        self._ends_ns[self._leases] = 0
        self.renew(self._leases, ttl_ns)
        return self._leases

    def renew(self, lease: int, ttl_ns: int) -> int:
        """The TTL, or 0 if the lease has ended."""
        if lease not in self._ends_ns:
            return 0
        ends_ns = self._kernel.now_ns + ttl_ns
        self._ends_ns[lease] = ends_ns
        late_ns = self._kernel.between(0, SECOND)
        self._kernel.after(ttl_ns + late_ns, None, lambda: self._expire(lease, ends_ns))
        return ttl_ns

    def revoke(self, lease: int) -> None:
        if self._ends_ns.pop(lease, None) is None:
            return
        keys = [key for key, entry in self.entries.items() if entry.lease == lease]
        if keys:
            self.revision += 1
            for key in keys:
                self._kernel.log(f"store: {key} gone at {self.revision}")
                del self.entries[key]
            self._tell(dict.fromkeys(keys))

    def _expire(self, lease: int, ends_ns: int) -> None:
        if self._ends_ns.get(lease) == ends_ns:
            self.revoke(lease)

    def _tell(self, changes: Mapping[str, Entry | None]) -> None:
        for channel in self._watches:
            channel.send(Update(self.revision, changes))


def _check_rise(old: Value | None, new: ShardTable) -> None:
    if not isinstance(old, ShardTable):
        return
    if new.generation <= old.generation:
        raise Violation(f"generation fell: {old.generation} to {new.generation}")
    for shard in range(old.first_shard, old.first_shard + len(old.owner)):
        before, after = old.owner_of(shard), new.owner_of(shard)
        fell = new.epoch[shard % 1024] < old.epoch[shard % 1024]
        if fell or (before != after and new.epoch[shard % 1024] == old.epoch[shard % 1024]):
            raise Violation(f"epoch of shard {shard} did not rise with its owner")
