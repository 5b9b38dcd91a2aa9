"""The seed process: settings, build, serve, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from seedbed.service import lifecycle, logs
from seedbed.service.telemetry import Telemetry
from seedbed_seed.config import SeedConfig
from seedbed_seed.seed import Seed
from seedbed_seed.stores import open_store

log = logging.getLogger(__name__)


def main() -> None:
    """Run until a signal; see `seedbed.service.lifecycle` for exit codes."""
    sys.exit(lifecycle.run(serve))


async def serve(stop: asyncio.Event) -> None:
    """One seed, from its settings to its end."""
    config = SeedConfig.read(os.environ)
    logs.configure(config.log_level, {"role": "seed", "node": config.node_id}, held=True)
    if config.policy is not None:
        log.warning("policy not enforced", extra={"why": "SEEDBED_POLICY is not built yet"})
    telemetry = Telemetry(config.telemetry, service="seedbed-seed", node=config.node_id)
    try:
        await Seed(config, open_store(config), telemetry).run(stop)
    finally:
        telemetry.close()


if __name__ == "__main__":
    main()
