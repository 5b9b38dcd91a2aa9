"""Settings that seeds, workers and clients read in the same way."""

from __future__ import annotations

from seedbed.errors import SettingsError
from seedbed.parking import ParkingLimits
from seedbed.settings import Reader
from seedbed.tls import TlsFiles


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


def tls_files(reader: Reader) -> TlsFiles | None:
    """Our own mutual TLS, if its three files are set. Raises `SettingsError` if only some are."""
    names = ("SEEDBED_TLS_CERT", "SEEDBED_TLS_KEY", "SEEDBED_TLS_CA")
    cert, key, ca = files = [reader.file(name) for name in names]
    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None or ca is None:
        missing = names[files.index(None)]
        raise SettingsError(f"{missing}: not set, expected a file, because others of TLS are set")
    return TlsFiles(cert, key, ca)
