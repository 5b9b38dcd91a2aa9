"""Which of a call's metadata is the user's, and which is the road's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from seedbed.calls import Metadata
from seedbed.errors import CallError, Reason

IDEMPOTENCY_KEY: Final = "idempotency-key"
MAX_ID_BYTES: Final = 255
"""Of a name that a caller gives to a call."""

_HOP: Final = frozenset(
    {
        "content-type",
        "content-length",
        "te",
        "user-agent",
        "host",
        "connection",
        "accept-encoding",
        "traceparent",
        "tracestate",
        "x-forwarded-client-cert",
    }
)
"""Beside all of `grpc-*`: written anew on every hop, or known to the call in another way."""


@dataclass(frozen=True, slots=True)
class CallMetadata:
    """What a call's metadata says."""

    own: Metadata = ()
    traceparent: str = ""
    tracestate: str = ""
    idempotency_key: str = ""

    def name(self) -> str:
        """The name that the caller gives to the call; empty: none. Raises `CallError`."""
        name = self.idempotency_key
        if name and len(name.encode(errors="surrogatepass")) > MAX_ID_BYTES:
            raise CallError(
                Reason.BAD_REQUEST,
                f"{IDEMPOTENCY_KEY} has {len(name)} characters, more than {MAX_ID_BYTES} bytes:"
                " shorten it",
            )
        return name


NOTHING: Final = CallMetadata()
"""Of a call with no metadata that matters."""


def read_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> CallMetadata:
    """Sort a call's metadata. The idempotency key stays among the user's own as well."""
    own: list[tuple[str, str | bytes]] = []
    traceparent = tracestate = key = ""
    for name, value in metadata:
        if name in _HOP:
            if name == "traceparent" and isinstance(value, str):
                traceparent = value
            elif name == "tracestate" and isinstance(value, str):
                tracestate = value
        elif not name.startswith("grpc-"):
            if name == IDEMPOTENCY_KEY and isinstance(value, str):
                key = value
            own.append((name, value))
    if not own and not traceparent:
        return NOTHING
    return CallMetadata(tuple(own), traceparent, tracestate, key)
