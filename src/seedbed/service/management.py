"""The management port: health for people and probes, metrics for Prometheus.

It has a thread of its own, so that a stalled event loop is seen as its lag and not as a time-out.
What it is given is called from that thread, so it must only read.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from seedbed.errors import SettingsError
from seedbed.settings import bad_setting

log = logging.getLogger(__name__)

Checks: TypeAlias = Callable[[], Mapping[str, str | None]]
"""Names of checks, each with None if it is good, else with what is wrong."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_START_LIMIT_S = 10.0
_STOP_LIMIT_S = 3.0


class Management:
    """Serves `/health/alive`, `/health/ready` and `/metrics` from `start` until `close`."""

    def __init__(
        self,
        *,
        alive: Checks,
        ready: Checks,
        metrics: Callable[[], str],
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        self._metrics = metrics
        self._app = Starlette(
            routes=[
                Route("/health/alive", _health(alive)),
                Route("/health/ready", _health(ready)),
                Route("/metrics", self._render),
                *routes,
            ]
        )
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, bind: str, port: int) -> int:
        """Listen (port 0: any free one); returns the port. Raises `SettingsError` if it cannot."""
        listener = _listen(bind, port)
        config = uvicorn.Config(
            self._app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="management", daemon=True
        )
        self._thread.start()
        number: int = listener.getsockname()[1]
        return number

    def close(self) -> None:
        """Stop listening; waits for the thread's end, but not for long."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_LIMIT_S)

    async def _render(self, request: Request) -> Response:
        return PlainTextResponse(self._metrics(), media_type=METRICS_TYPE)


def _health(checks: Checks) -> Callable[[Request], Response]:
    # A plain function, so that starlette runs it in a thread: a slow check delays no other answer.
    def endpoint(request: Request) -> Response:
        try:
            results = dict(checks())
        except Exception as error:
            log.exception("health check failed")
            results = {"check": f"{type(error).__name__}: {error}"}
        good = all(wrong is None for wrong in results.values())
        body = {
            "status": "SERVING" if good else "NOT_SERVING",
            "checks": {name: wrong or "ok" for name, wrong in results.items()},
        }
        return JSONResponse(body, status_code=200 if good else 503)

    return endpoint


def _listen(bind: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise bad_setting("SEEDBED_BIND", bind, f"an address ({error.strerror})") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _cannot_listen(bind, port, error) from error
    return listener


def _cannot_listen(bind: str, port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return bad_setting("SEEDBED_HTTP_PORT", str(port), f"a port of {bind} that is not in use")
    if error.errno == errno.EADDRNOTAVAIL:
        return bad_setting("SEEDBED_BIND", bind, "an address of this machine")
    return bad_setting(
        "SEEDBED_HTTP_PORT", str(port), f"a port of {bind} to listen on ({error.strerror})"
    )
