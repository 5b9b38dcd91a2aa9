"""A channel to the first seed that answers."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import grpc

from seedbed.cli.failure import unreachable
from seedbed.errors import SettingsError
from seedbed.settings import Reader, addresses
from seedbed.tls import TlsFiles

CONNECT_LIMIT_S = 3.0
"""For each seed."""

CALL_LIMIT_S = 10.0

_OPTIONS = (("grpc.max_receive_message_length", -1),)
"""A listing of 100,000 shards is over gRPC's own limit of 4 MiB."""


def seeds(given: str) -> tuple[str, ...]:
    """What `--seed` says, else SEEDBED_SEEDS."""
    if given:
        return addresses("--seed", given)
    return Reader(os.environ).addresses("SEEDBED_SEEDS", required=True)


@contextmanager
def connected(given: str) -> Generator[grpc.Channel]:
    """A channel that has reached a seed; raises `Failure` if none answers."""
    targets = seeds(given)
    credentials = _credentials()
    for target in targets:
        channel = (
            grpc.insecure_channel(target, _OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, _OPTIONS)
        )
        with channel:
            if _reached(channel):
                yield channel
                return
    raise unreachable(f"no seed answers at {', '.join(targets)}")


def _reached(channel: grpc.Channel) -> bool:
    try:
        grpc.channel_ready_future(channel).result(timeout=CONNECT_LIMIT_S)
    except grpc.FutureTimeoutError:
        return False
    return True


def _credentials() -> grpc.ChannelCredentials | None:
    reader = Reader(os.environ)
    cert, key, ca = (reader.file(f"SEEDBED_TLS_{part}") for part in ("CERT", "KEY", "CA"))
    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None or ca is None:
        raise SettingsError(
            "SEEDBED_TLS_CERT, SEEDBED_TLS_KEY, SEEDBED_TLS_CA: found some, expected all or none"
        )
    return TlsFiles(cert, key, ca).channel_credentials()
