"""Small helpers for callers of entities: repeats, retries of plain channels, composite keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from types import ModuleType
from urllib.parse import quote, unquote

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

from seedbed.descriptors import contract_of, entity_options

IDEMPOTENCY_KEY = "idempotency-key"
"""Metadata by which a caller says that it is the same call."""


def once(key: str) -> tuple[tuple[str, str], ...]:
    """Call metadata that makes repeats with this key one call: `stub.Place(x, metadata=once(k))`.

    gRPC takes printable ASCII only.
    """
    return ((IDEMPOTENCY_KEY, key),)


def service_config(*services: FileDescriptor | ServiceDescriptor | ModuleType) -> str:
    """Service config for a plain channel to the entities of these files, modules or services.

    A module is a generated `_pb2` one. The text goes into the channel option `grpc.service_config`:
    gRPC then spreads calls over the seeds, leaves a seed as soon as that says that it stops, and
    repeats calls that ended with UNAVAILABLE, of the methods that may be repeated only. Raises
    `ContractError` for a service that cannot be an entity, or a named one that is none, and
    `TypeError` for anything else.
    """
    names = [
        {"service": contract.service, "method": method.name}
        for contract in map(contract_of, _entities(services))
        for method in contract.methods.values()
        if method.repeatable
    ]
    config: dict[str, object] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
    }
    if names:
        retry = {
            "maxAttempts": 5,  # gRPC's own limit
            "initialBackoff": "0.1s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": names, "retryPolicy": retry}]
    return json.dumps(config)


def join_key(*parts: str) -> str:
    """One key of several parts: each percent-encoded, joined by `/`."""
    if not parts:
        raise ValueError("a key needs at least one part")
    return "/".join(quote(part, safe="") for part in parts)


def split_key(key: str) -> list[str]:
    """Parts of a key that `join_key` made."""
    return [unquote(part, errors="strict") for part in key.split("/")]


def _entities(
    services: Iterable[FileDescriptor | ServiceDescriptor | ModuleType],
) -> Iterator[ServiceDescriptor]:
    for one in services:
        found: object = getattr(one, "DESCRIPTOR", None) if isinstance(one, ModuleType) else one
        if isinstance(found, ServiceDescriptor):
            yield found
        elif isinstance(found, FileDescriptor):
            every = found.services_by_name.values()
            yield from (service for service in every if entity_options(service) is not None)
        else:
            raise TypeError(f"{one!r} is no _pb2 module, and no descriptor of a file or a service")
