"""Settings that seeds, workers and clients read in the same way."""

from __future__ import annotations

from seedbed.parking import ParkingLimits
from seedbed.settings import Reader


def parking_limits(reader: Reader, *, minimum: int) -> ParkingLimits:
    """What may wait for a shard with an owner, each `minimum` at least. Raises `SettingsError`."""
    return ParkingLimits(
        calls=reader.integer("SEEDBED_PARKED_CALLS", minimum=minimum),
        bytes=reader.integer("SEEDBED_PARKED_BYTES", minimum=minimum),
        calls_per_shard=reader.integer("SEEDBED_PARKED_CALLS_PER_SHARD", minimum=minimum),
    )


def max_message_bytes(reader: Reader) -> int:
    """Of a request or a reply of an entity. Raises `SettingsError`."""
    return reader.integer("SEEDBED_MAX_MESSAGE_BYTES", minimum=1024, maximum=1 << 30)
