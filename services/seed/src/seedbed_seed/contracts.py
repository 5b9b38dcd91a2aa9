"""What types are, kept in the store from their first registration on: creation, merge, the gate.

A worker is refused only for what the cluster cannot serve beside what is there: another shard
count, another key, another kind of call. Builds that lack methods, or have new ones, register.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.protobuf.message import DecodeError

from seedbed.contract import TypeContract, incompatibility, merge
from seedbed.contract import to_proto as contract_to_proto
from seedbed.descriptors import contract_from_descriptors
from seedbed.errors import CallError, ContractError, ProtocolError, Reason
from seedbed.sharding import MAX_SHARDS
from seedbed.v1 import cluster_pb2, store_pb2
from seedbed_seed.entries import KnownContract, parse_contract
from seedbed_seed.records import Keys
from seedbed_seed.store import Compare, Created, Get, Modified, Put, Store, StoreError, WriteInDoubt

ATTEMPTS = 5
"""Guarded writes of one contract that may lose to other seeds' before a worker has to come again.
"""

KEPT_BUILDS = 8
"""Descriptor sets that are kept of a type; reflection answers from the newest."""

KEPT_BYTES = 1_000_000
"""And this much of them, since one key of etcd holds 1.5 MiB."""

MAX_TYPES = 50
"""Types of one Hello (and, as published, of one cluster)."""


class Contracts:
    """Reads and writes the stored contracts."""

    def __init__(self, *, store: Store, keys: Keys, default_shards: int, timeout_s: float) -> None:
        self._store = store
        self._keys = keys
        self._default_shards = default_shards
        self._timeout_s = timeout_s

    async def read_all(self) -> tuple[KnownContract, ...]:
        """All contracts as they are now, whatever the watch has delivered."""
        gets = Get(self._keys.contracts, prefix=True)
        reading = await self._store.read(gets, timeout=self._timeout_s)
        known: list[KnownContract] = []
        for entry in reading.answers[0]:
            try:
                known.append(parse_contract(entry))
            except (DecodeError, ProtocolError, ValueError):
                continue  # the view has logged it
        return tuple(known)

    async def register(self, declared: Sequence[cluster_pb2.TypeDeclaration]) -> Mapping[str, int]:
        """Store what a worker declares; returns the shard count of each of its types.

        Raises `CallError(INCOMPATIBLE)` or a `StoreError`.
        """
        if len(declared) > MAX_TYPES:
            raise _refused(f"{len(declared)} entity types: at most {MAX_TYPES} are possible")
        contracts = [(self._parse(one), one.descriptors) for one in declared]
        names = [contract.type for contract, _ in contracts]
        if twice := {name for name in names if names.count(name) > 1}:
            raise _refused(f"entity type {min(twice)} is declared twice")
        others = await self.read_all() if contracts else ()
        counts: dict[str, int] = {}
        for contract, descriptors in contracts:
            for other in others:
                if other.contract.service == contract.service and (
                    other.contract.type != contract.type
                ):
                    raise _refused(
                        f"service {contract.service} is entity type {other.contract.type} in this"
                        f" cluster, not {contract.type}: a service keeps its type"
                    )
            counts[contract.type] = await self._store_one(contract, descriptors)
        return counts

    def _parse(self, declared: cluster_pb2.TypeDeclaration) -> TypeContract:
        try:
            contract = contract_from_descriptors(declared.descriptors, declared.service)
        except ContractError as error:
            raise _refused(str(error)) from error
        if contract.type != declared.type:
            raise _refused(
                f"service {declared.service} says that it is entity type {contract.type!r}, the"
                f" worker says {declared.type!r}: build the worker anew"
            )
        if len(declared.descriptors) > KEPT_BYTES:
            raise _refused(
                f"service {declared.service}: its descriptors take {len(declared.descriptors)}"
                f" bytes, at most {KEPT_BYTES} are possible: import fewer files"
            )
        count = declared.shard_count or contract.shard_count
        if count > MAX_SHARDS:
            raise _refused(f"type {contract.type}: {count} shards: use at most {MAX_SHARDS}")
        return replace(contract, shard_count=count)

    async def _store_one(self, contract: TypeContract, descriptors: bytes) -> int:
        key = self._keys.contract(contract.type)
        for _ in range(ATTEMPTS):
            reading = await self._store.read(Get(key), timeout=self._timeout_s)
            entry = next(iter(reading.answers[0]), None)
            if entry is None:
                guard: Compare = Created(key, 0)
                wanted = self._first(contract, descriptors)
            else:
                try:
                    known = parse_contract(entry)
                except (DecodeError, ProtocolError, ValueError) as error:
                    raise _refused(f"what is stored at {key} is no contract: {error}") from error
                if reason := incompatibility(known.contract, contract):
                    raise _refused(reason)
                guard = Modified(key, entry.mod_revision)
                wanted = _merged(known, contract, descriptors)
                if wanted == known.message:
                    return wanted.contract.shard_count
            try:
                write = Put(key, wanted.SerializeToString())
                outcome = await self._store.write(write, when=[guard], timeout=self._timeout_s)
            except WriteInDoubt:
                continue  # the next read shows whether it is there; nothing is sent twice blindly
            if outcome.succeeded:
                return wanted.contract.shard_count
        raise StoreError(f"contract {contract.type}: {ATTEMPTS} writes lost to others'")

    def _first(self, contract: TypeContract, descriptors: bytes) -> store_pb2.StoredContract:
        whole = replace(contract, shard_count=contract.shard_count or self._default_shards)
        return store_pb2.StoredContract(
            contract=contract_to_proto(whole), descriptor_sets=[descriptors]
        )


def _merged(
    known: KnownContract, contract: TypeContract, descriptors: bytes
) -> store_pb2.StoredContract:
    """The stored contract with this build's methods. What both have stays as the newest build
    says it, and an old build that registers again changes nothing, so that two builds side by
    side do not overwrite each other for ever."""
    builds = list(known.message.descriptor_sets)
    if descriptors in builds:
        return known.message
    kept = [*builds, descriptors][-KEPT_BUILDS:]
    while sum(map(len, kept)) > KEPT_BYTES:
        del kept[0]
    return store_pb2.StoredContract(
        contract=contract_to_proto(merge(known.contract, contract)), descriptor_sets=kept
    )


def _refused(message: str) -> CallError:
    return CallError(Reason.INCOMPATIBLE, message)
