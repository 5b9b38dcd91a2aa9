"""One Register stream to one seed over blocking gRPC, read by a thread of its own.

Each stream has its own channel, so its own connection: a seed that failed a moment ago is dialled
anew, and a connection that hangs is left behind with its stream.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Final

import grpc

from seedbed.clock import Clock
from seedbed.tls import TlsFiles
from seedbed_worker.core import session_events as ev
from seedbed_worker.session_wire import REGISTER, from_seed

UNHANDLED: Final = 64
"""Messages of one stream that may wait for the session thread; more wait in gRPC."""

_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", 2000),
    # A name that stands for several seeds: workers should not all take its first address.
    (
        "grpc.service_config",
        '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}',
    ),
)


class SeedStream:
    """Opens at once; `post` gets what the seed says (from the stream's thread), then `Ended`."""

    def __init__(
        self,
        number: int,
        address: str,
        hello: bytes,
        *,
        post: Callable[[ev.Said | ev.Ended], None],
        clock: Clock,
        tls: TlsFiles | None,
        authority: str,
    ) -> None:
        self._number = number
        self._address = address
        self._post = post
        self._clock = clock
        self._tls = tls
        self._authority = authority
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._out.put(hello)
        self._unhandled = threading.Semaphore(UNHANDLED)
        self._closed = threading.Event()
        self._channel: grpc.Channel | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name=f"register-{number}", daemon=True).start()

    def send(self, message: bytes) -> None:
        """Send, in order; never blocks."""
        self._out.put(message)

    def handled(self) -> None:
        """One message that was posted has been dealt with."""
        self._unhandled.release()

    def close(self) -> None:
        """End the stream; nothing more is posted but, perhaps, what is on its way."""
        self._closed.set()
        self._out.put(None)
        self._unhandled.release()
        with self._lock:
            if self._channel is not None:
                self._channel.close()

    def _run(self) -> None:
        why = "the seed ended the stream"
        try:
            self._read(self._open())
        except grpc.RpcError as error:
            why = _describe(error)
        except Exception as error:  # no SeedMessage, TLS files, a channel that `close` closed
            why = f"{type(error).__name__}: {error}"
        self._out.put(None)
        self._close_channel()
        self._post(ev.Ended(self._number, why))

    def _read(self, channel: grpc.Channel) -> None:
        start: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(REGISTER)
        for raw in start(iter(self._out.get, None)):
            message = from_seed(raw, self._clock.wall_ms())
            self._unhandled.acquire()
            if self._closed.is_set():
                return
            self._post(ev.Said(self._number, message))

    def _open(self) -> grpc.Channel:
        options: list[tuple[str, int | str]] = [*_OPTIONS]
        if self._authority:
            options.append(("grpc.default_authority", self._authority))
            if self._tls is not None:
                options.append(("grpc.ssl_target_name_override", self._authority))
        with self._lock:
            if self._closed.is_set():
                raise ValueError("closed before it was opened")
            if self._tls is None:
                self._channel = grpc.insecure_channel(self._address, options=options)
            else:
                credentials = self._tls.channel_credentials()
                self._channel = grpc.secure_channel(self._address, credentials, options=options)
            return self._channel

    def _close_channel(self) -> None:
        with self._lock, contextlib.suppress(Exception):
            if self._channel is not None:
                self._channel.close()


def _describe(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return str(error)
