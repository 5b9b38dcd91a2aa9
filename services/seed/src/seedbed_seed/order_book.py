"""The operators' orders in the store: read, and rewritten under a guard of their revision.

A write is sent once. Each edit can be repeated without harm, so a lost race, or a lost answer, is
resolved by reading: an edit that would change nothing any more has been carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from google.protobuf.message import DecodeError

from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.ids import NodeId
from seedbed.v1 import store_pb2
from seedbed_seed.core.orders import Orders
from seedbed_seed.records import Keys
from seedbed_seed.store import (
    Created,
    Entry,
    Get,
    Modified,
    Put,
    Store,
    StoreError,
    StoreFull,
    WriteInDoubt,
)

ATTEMPTS = 5
"""Guarded writes that may lose to other seeds'."""

MAX_BYTES = 1_000_000
"""Of all orders: one value in etcd holds them, and etcd takes no request over 1.5 MiB."""

Edit: TypeAlias = Callable[[store_pb2.Orders], None]
"""Changes the orders; done twice it changes nothing more. May raise `CallError`."""


def parse_orders(value: bytes) -> store_pb2.Orders:
    """Raises `ProtocolError` if the bytes are no orders."""
    try:
        return store_pb2.Orders.FromString(value)
    except DecodeError as error:
        raise ProtocolError(f"no orders: {error}") from error


def orders_of(record: store_pb2.Orders) -> Orders:
    """The core's view of the orders."""
    return Orders(
        cordoned=frozenset(map(NodeId, record.cordoned)),
        draining=frozenset(map(NodeId, record.draining)),
        pins={(pin.type, pin.shard): NodeId(pin.node_id) for pin in record.pins},
        frozen=record.frozen,
        frozen_reason=record.frozen_reason,
    )


class OrderBook:
    """Each store call ends within `step_s`."""

    def __init__(self, store: Store, keys: Keys, step_s: float) -> None:
        self._store = store
        self._key = keys.orders
        self._step_s = step_s

    async def change(self, edit: Edit) -> int:
        """Carry out the edit; returns a revision of the store that shows it.

        Raises `CallError`: what the edit raises, OVERLOADED if there would be too many, STORE_FULL,
        SEED_NOT_READY if etcd does not answer, OUTCOME_UNKNOWN if it does not after the write was
        sent.
        """
        sent = False
        try:
            for _ in range(ATTEMPTS):
                revision, entry, orders = await self._read()
                before = orders.SerializeToString(deterministic=True)
                edit(orders)
                value = orders.SerializeToString(deterministic=True)
                if value == before:
                    return revision
                if len(value) > MAX_BYTES:
                    raise CallError(
                        Reason.OVERLOADED,
                        f"all orders together would take {len(value)} bytes, and {MAX_BYTES} are"
                        " the limit of etcd: unpin what need not be pinned",
                    )
                guard = Modified(entry.key, entry.mod_revision) if entry else Created(self._key, 0)
                try:
                    outcome = await self._store.write(
                        Put(self._key, value), when=[guard], timeout=self._step_s
                    )
                except WriteInDoubt:
                    sent = True
                    continue
                except StoreFull as error:
                    revision, _, orders = await self._read()
                    if orders.SerializeToString(deterministic=True) == value:
                        return revision
                    raise CallError(Reason.STORE_FULL, f"etcd is full: {error}") from error
                if outcome.succeeded:
                    return outcome.revision
        except StoreError as error:
            if sent:
                raise CallError(
                    Reason.OUTCOME_UNKNOWN,
                    f"etcd did not answer ({error}): whether the order stands is not known; giving"
                    " it again does no harm",
                ) from error
            raise CallError(
                Reason.SEED_NOT_READY, f"etcd cannot be asked ({error}); nothing was ordered"
            ) from error
        raise CallError(
            Reason.SEED_NOT_READY,
            f"{ATTEMPTS} writes of the orders were lost to others' or in doubt: give it again",
        )

    async def _read(self) -> tuple[int, Entry | None, store_pb2.Orders]:
        reading = await self._store.read(Get(self._key), timeout=self._step_s)
        entry = next(iter(reading.answers[0]), None)
        try:
            orders = parse_orders(entry.value) if entry is not None else store_pb2.Orders()
        except ProtocolError as error:
            raise StoreError(f"{self._key}: {error}") from error
        return reading.revision, entry, orders
