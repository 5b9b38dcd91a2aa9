"""What an entry of the store says. One that cannot be read is logged and left out; it stops
nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError

from seedbed import tables as table_codec
from seedbed.contract import TypeContract
from seedbed.contract import from_proto as contract_from_proto
from seedbed.errors import ContractError, ProtocolError
from seedbed.routing import ShardTable
from seedbed.v1 import store_pb2
from seedbed_seed.core.orders import Orders
from seedbed_seed.order_book import orders_of, parse_orders
from seedbed_seed.records import Keys, parse_record, worker_of
from seedbed_seed.store import Entry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownMember:
    """A member's record and the entry that holds it."""

    record: store_pb2.MemberRecord
    entry: Entry


@dataclass(frozen=True, slots=True)
class KnownContract:
    """A type's contract, and the descriptor sets of its builds, oldest first."""

    contract: TypeContract
    message: store_pb2.StoredContract
    revision: int


Known: TypeAlias = ShardTable | KnownContract | KnownMember | Orders
"""A member is a worker's or a seed's, by the key of its entry."""


def parse_entry(keys: Keys, entry: Entry) -> Known | None:
    """None for a key of no interest, and for a broken value."""
    try:
        return _parse(keys, entry)
    except (ProtocolError, DecodeError, ContractError, ValueError) as error:
        log.error("record unreadable", extra={"key": entry.key, "error": str(error)})
        return None


def parse_contract(entry: Entry) -> KnownContract:
    """Raises `DecodeError` or a `SeedbedError` if the entry holds no contract."""
    message = store_pb2.StoredContract.FromString(entry.value)
    return KnownContract(contract_from_proto(message.contract), message, entry.mod_revision)


def _parse(keys: Keys, entry: Entry) -> Known | None:
    if entry.key.startswith(keys.tables):
        message = store_pb2.AllocationTable.FromString(entry.value)
        table = table_codec.from_proto(message, revision=entry.mod_revision)
        if entry.key != keys.table(table.type, table.chunk):
            raise ProtocolError(f"holds table {table.type}/{table.chunk}")
        return table
    if entry.key == keys.orders:
        return orders_of(parse_orders(entry.value))
    if entry.key.startswith(keys.contracts):
        return parse_contract(entry)
    if entry.key.startswith(keys.workers):
        member = KnownMember(parse_record(entry.value), entry)
        worker_of(member.record, entry)  # what the core cannot read is broken too
        return member
    if entry.key.startswith(keys.seeds):
        return KnownMember(parse_record(entry.value), entry)
    return None
