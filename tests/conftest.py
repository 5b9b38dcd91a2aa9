"""What holds for the whole suite: how Hypothesis judges time on a busy machine; one PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.postgres import Server

# pytest's own timeout ends what hangs; a slow draw (the first text builds a table of all
# characters) says more about the machine than about the test.
settings.register_profile("seedbed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("seedbed")


@pytest.fixture(scope="session")
def postgres() -> Generator[Server, None, None]:
    """A server for tests of logic, started by the first that asks for it."""
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def journal_dsn(postgres: Server) -> str:
    """Address of an empty journal in PostgreSQL."""
    return await postgres.journal()
