"""The worker process: settings, resources, build, serve, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from seedbed.service import lifecycle, logs
from seedbed.service.telemetry import Telemetry
from seedbed_worker.config import WorkerConfig
from seedbed_worker.driver import Worker
from seedbed_worker.resources import entered

log = logging.getLogger(__name__)


def main() -> None:
    """Run until a signal; see `seedbed.service.lifecycle` for exit codes."""
    sys.exit(lifecycle.run(serve))


async def serve(stop: asyncio.Event) -> None:
    """One worker, from its settings to its end."""
    config = WorkerConfig.read(os.environ)
    logs.configure(config.log_level, {"role": "worker", "node": config.node_id}, held=True)
    for name, why in config.not_built():
        log.warning("setting not built yet", extra={"setting": name, "why": why})
    telemetry = Telemetry(config.telemetry, service="seedbed-worker", node=config.node_id)
    try:
        async with entered(
            config.entities, limit_s=config.resources_timeout_s, stop=stop
        ) as factories:
            if not stop.is_set():
                await Worker(config, telemetry.tracer, factories).run(stop)
    finally:
        telemetry.close()


if __name__ == "__main__":
    main()
