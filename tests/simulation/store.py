"""A store with etcd's semantics: revisions, guarded transactions, leases that end, ordered watches.

Its own timers are exact, and a lease may end up to a second late, as etcd's do. Every table that is
written is shown to `Movements`. `restore` puts an earlier state in the place of the present one, or
none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from seedbed.ids import Incarnation
from seedbed.routing import ShardTable
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.orders import Orders
from tests.simulation.kernel import MS, SECOND, Channel, Kernel
from tests.simulation.movements import Movements

Value: TypeAlias = Worker | ShardTable | Orders | str


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
    life: int = 0
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """The key's create (or mod) revision is this; with `equal=False`, is not."""

    key: str
    create: int | None = None
    modified: int | None = None
    equal: bool = True


@dataclass(frozen=True, slots=True)
class Backup:
    """The store at one of its revisions; of leases it holds their lengths."""

    at_ns: int
    revision: int
    entries: Mapping[str, Entry]
    leases: Mapping[int, int]


class Store:
    def __init__(self, kernel: Kernel, movements: Movements) -> None:
        self._kernel = kernel
        self._movements = movements
        self.revision = 1
        self.life = 0
        """Rises with every restore; nothing sent to one life is carried out by another."""
        self.entries: dict[str, Entry] = {}
        self._restored_revision = 0
        self._ends_ns: dict[int, int] = {}
        self._ttl_ns: dict[int, int] = {}
        self._leases = 0
        self._watches: list[Channel[Update]] = []
        self._broken: list[Channel[Update]] = []
        self._backups: list[Backup] = []

    def watch(self, channel: Channel[Update]) -> None:
        self._list(channel)

    def unwatch(self, channel: Channel[Update]) -> None:
        channel.close()
        for watches in (self._watches, self._broken):
            if channel in watches:
                watches.remove(channel)

    def restore(self, age_ns: int | None, seen_revision: int) -> None:
        """Go back to what it was so long ago (None: to nothing), and before a revision was seen.

        Every connection breaks, leases begin anew, and no lease's id is ever given again.
        """
        before_ns = 0 if age_ns is None else self._kernel.now_ns - age_ns
        backup = Backup(0, 1, {}, {})
        for known in self._backups:
            if known.at_ns <= before_ns and known.revision <= seen_revision:
                backup = known
        self._kernel.log(f"store: restored from {self.revision} to {backup.revision}")
        self.life += 1
        self.revision = self._restored_revision = backup.revision
        self.entries = dict(backup.entries)
        self._backups = [known for known in self._backups if known.revision <= backup.revision]
        self._ends_ns = dict.fromkeys(backup.leases, 0)
        for lease, ttl_ns in backup.leases.items():
            self.renew(lease, ttl_ns)
        broken, self._watches = self._watches, []
        for channel in broken:
            self._broken.append(channel)
            channel.lose()
            again_ns = self._kernel.between(10 * MS, SECOND)
            self._kernel.after(again_ns, None, partial(self._list_again, channel))

    def settled(self, tables: Sequence[str]) -> bool:
        """Has every table been written since the last restore?"""
        return all(
            (entry := self.entries.get(key)) and entry.mod_revision > self._restored_revision
            for key in tables
        )

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
                lost = old is None or old.mod_revision <= self._restored_revision
                self._movements.written(value, self.member, lost=lost)
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

    def member(self, incarnation: Incarnation) -> Worker | None:
        """Its record, if there is one."""
        for entry in self.entries.values():
            if isinstance(entry.value, Worker) and entry.value.incarnation == incarnation:
                return entry.value
        return None

    def under(self, prefix: str) -> list[Entry]:
        return [entry for key, entry in self.entries.items() if key.startswith(prefix)]

    def grant(self, ttl_ns: int) -> int:
        self._leases += 1
        self._ends_ns[self._leases] = 0
        self._ttl_ns[self._leases] = ttl_ns
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
        leases = {lease: self._ttl_ns[lease] for lease in self._ends_ns}
        self._backups.append(Backup(self._kernel.now_ns, self.revision, dict(self.entries), leases))
        for channel in self._watches:
            channel.send(Update(self.revision, changes, life=self.life))

    def _list(self, channel: Channel[Update], *, restored: bool = False) -> None:
        entries = dict(self.entries)
        channel.send(Update(self.revision, entries, True, self.life, restored))
        self._watches.append(channel)

    def _list_again(self, channel: Channel[Update]) -> None:
        if channel in self._broken:
            self._broken.remove(channel)
            self._list(channel, restored=True)
