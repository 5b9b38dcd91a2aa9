"""Small helpers for callers of entities: repeats, retries of plain channels, composite keys."""

from __future__ import annotations

import json
from urllib.parse import quote, unquote

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import ServiceOptions

from seedbed.descriptors import contract_of
from seedbed.v1 import options_pb2

IDEMPOTENCY_KEY = "idempotency-key"
"""Metadata by which a caller says that it is the same call."""


def once(key: str) -> tuple[tuple[str, str], ...]:
    """Call metadata that makes repeats with this key one call: `stub.Place(x, metadata=once(k))`.

    gRPC takes printable ASCII only.
    """
    return ((IDEMPOTENCY_KEY, key),)


def service_config(*files: FileDescriptor) -> str:
    """Service config for a plain channel to the entities of these files.

    It goes into the channel option `grpc.service_config`. gRPC then repeats calls that ended with
    UNAVAILABLE, of the methods that may be repeated only; raises `ContractError` for a service
    that cannot be an entity.
    """
    names = [
        {"service": contract.service, "method": method.name}
        for file in files
        for service in file.services_by_name.values()
        if _is_entity(service.GetOptions().SerializeToString())
        for contract in [contract_of(service)]
        for method in contract.methods.values()
        if method.repeatable
    ]
    if not names:
        return "{}"
    retry = {
        "maxAttempts": 5,  # gRPC's own limit
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": retry}]})


def join_key(*parts: str) -> str:
    """One key of several parts: each percent-encoded, joined by `/`."""
    if not parts:
        raise ValueError("a key needs at least one part")
    return "/".join(quote(part, safe="") for part in parts)


def split_key(key: str) -> list[str]:
    """Parts of a key that `join_key` made."""
    return [unquote(part, errors="strict") for part in key.split("/")]


def _is_entity(options: bytes) -> bool:
    return ServiceOptions.FromString(options).HasExtension(options_pb2.entity)
