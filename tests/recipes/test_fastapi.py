"""The FastAPI recipe, served by uvicorn, against a cluster of processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import fastapi_app
import httpx
import pytest
import uvicorn

from tests.recipes.thermostats import thermostats
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@asynccontextmanager
async def served() -> AsyncGenerator[httpx.AsyncClient]:
    server = uvicorn.Server(
        uvicorn.Config(fastapi_app.app, port=0, log_config=None, timeout_graceful_shutdown=5)
    )
    server.config.load()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve())
        try:
            await until("the app serves", lambda: server.started or serving.done(), within=10)
            port = server.servers[0].sockets[0].getsockname()[1]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
                yield http
        finally:
            server.should_exit = True


async def test_a_view_calls_an_entity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with thermostats(tmp_path) as cluster:
        monkeypatch.setenv("SEEDBED_SEEDS", cluster.entry)
        async with served() as http:
            readings = "/thermostats/kitchen/readings"
            key = {"Idempotency-Key": "reading-1"}
            reported = await http.post(readings, json={"celsius": 20.5}, headers=key)
            assert reported.status_code == 200, reported.text
            looked = await http.get("/thermostats/kitchen")
            assert looked.json() == {"device_id": "kitchen", "celsius": 20.5, "readings": 1}

            refused = await http.post(readings, json={"celsius": 1000})
            assert refused.status_code == 400
            assert refused.json()["detail"]["reason"] == ""
            assert refused.json()["detail"]["message"].startswith("celsius is 1000")


async def test_the_app_starts_without_a_cluster_and_says_why_a_call_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEEDBED_SEEDS", "127.0.0.1:1")
    monkeypatch.setattr(fastapi_app, "TIMEOUT_S", 0.5)
    async with served() as http:
        looked = await http.get("/thermostats/kitchen")
        assert looked.status_code == 503
        assert looked.json()["detail"]["reason"] == "SEED_NOT_READY"
