"""From a key to its shard: a rule that never changes, so every language can compute it.

Golden values, and how to compute them elsewhere, are in `docs/sharding.md`.
"""

from __future__ import annotations

from zlib import crc32

MAX_SHARDS = 4096
"""Most shards that a type may have."""


def shard_of(key: bytes, shard_count: int) -> int:
    """Shard of a canonical key (see `seedbed.keys.Key`) in a type of so many shards."""
    return crc32(key) % shard_count
