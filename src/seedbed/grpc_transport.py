"""The transport seam on grpc.aio: what every process of ours listens and dials with.

Servers are in `grpc_server`, connections in `grpc_connection`; here is what both share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc

from seedbed.clock import Clock, SystemClock
from seedbed.grpc_connection import GrpcConnection
from seedbed.grpc_server import GrpcServer
from seedbed.tls import TlsFiles
from seedbed.transport import Methods, Transport

__all__ = ["GrpcTransport", "TlsFiles"]

Options = Sequence[tuple[str, int | str]]

PING_EVERY_S: Final = 10
PING_TIMEOUT_S: Final = 3
"""A peer that vanished without a word is noticed after the sum of both."""

RECONNECT_MAX_MS: Final = 1000
"""gRPC's own default (2 min) adds up to 15 s after an outage."""

CONNECT_TIMEOUT_MS: Final = 2000
"""An address that swallows packets is given up after this, gRPC's default is 20 s."""

_SERVER_OPTIONS: Final[Options] = (
    ("grpc.so_reuseport", 0),  # two processes on one port: never (a port in use proves an owner)
    ("grpc.keepalive_permit_without_calls", 1),
    # Half of what clients use, so that a ping a little early is no strike.
    ("grpc.http2.min_ping_interval_without_data_ms", PING_EVERY_S * 500),
    ("grpc.keepalive_time_ms", PING_EVERY_S * 1000),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_S * 1000),
    ("grpc.http2.max_pings_without_data", 0),
)

_CLIENT_OPTIONS: Final[Options] = (
    ("grpc.keepalive_time_ms", PING_EVERY_S * 1000),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
    ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
    # Each connection of ours is one TCP connection, never shared behind our back.
    ("grpc.use_local_subchannel_pool", 1),
    # Repeating is decided by routers, who know what may run twice.
    ("grpc.enable_retries", 0),
    # Members are dialled by address; a proxy of the environment does not reach them.
    ("grpc.enable_http_proxy", 0),
)


class GrpcTransport(Transport):
    """grpc.aio behind the seam.

    `max_message_bytes` bounds what arrives (None: unlimited, for servers that also carry Links,
    where batches are counted by us); gRPC's own limit lies above it, so that ours is met first
    and answers with a reason. `max_connection_age_s` makes clients of a server connect anew.
    `credentials` are a user's own, for connections, in place of `tls`.
    """

    def __init__(
        self,
        *,
        max_message_bytes: int | None,
        tls: TlsFiles | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        authority: str = "",
        max_connection_age_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        limit = -1 if max_message_bytes is None else 2 * max_message_bytes + 64 * 1024
        limits: Options = (
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
        )
        self._tls = tls
        self._credentials = credentials
        self._authority = authority
        self._clock = clock if clock is not None else SystemClock()
        self._server_options: Options = (*_SERVER_OPTIONS, *limits)
        if max_connection_age_s is not None:
            # Without a limit to the grace: calls, Register and entity streams end by themselves, on
            # the old connection; only what begins later takes the new one.
            age = ("grpc.max_connection_age_ms", round(max_connection_age_s * 1000))
            self._server_options = (*self._server_options, age)
        # Clients read replies without a limit: the server has counted them.
        self._client_options: Options = (
            *_CLIENT_OPTIONS,
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        )
        if authority:
            self._client_options = (*self._client_options, ("grpc.default_authority", authority))

    def server(self, *methods: Methods) -> GrpcServer:
        """A server that asks each of `methods` in turn for the method of a call."""
        return GrpcServer(methods, options=self._server_options, tls=self._tls, clock=self._clock)

    def connect(self, address: str) -> GrpcConnection:
        """A connection of its own; dials when it is first used, and again after a loss."""
        return GrpcConnection(
            address,
            options=self._client_options,
            tls=self._tls,
            credentials=self._credentials,
            authority=self._authority,
        )
