"""Mutual TLS of our own, for processes without a mesh: files that may change while we run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files: this process's certificate chain and key, and whom it believes."""

    cert: Path
    key: Path
    ca: Path

    def version(self) -> tuple[int, ...]:
        """Changes whenever one of the files does; cheap enough to ask for each connection."""
        return tuple(os.stat(path).st_mtime_ns for path in (self.cert, self.key, self.ca))

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that read the files again when they have changed, for each handshake."""
        seen = self.version()

        def current() -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration(
                [(self.key.read_bytes(), self.cert.read_bytes())], self.ca.read_bytes()
            )

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal seen
            version = self.version()
            if version == seen:
                return None  # gRPC keeps what it has
            configuration = current()
            seen = version
            return configuration

        # The stub leaves out that None is allowed; gRPC's documentation says so.
        return grpc.dynamic_ssl_server_credentials(current(), fetch, True)  # type: ignore[arg-type]

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials with what the files hold now."""
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes()
        )
