"""The Django recipe: a blocking view, against a cluster of processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import django
import django_view
import grpc.aio
import pytest
from django.conf import settings
from django.test import Client, override_settings
from thermostat.v1 import thermostat_pb2 as pb

from tests.recipes.thermostats import thermostats

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def browser() -> Iterator[Client]:
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="django_view")
        django.setup()
    with override_settings(ROOT_URLCONF="django_view"):
        yield Client()
    django_view.entities().close()
    django_view.entities.cache_clear()


async def test_what_may_be_repeated_the_channel_repeats_by_itself(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    async def get(
        request: pb.DeviceRef, context: grpc.aio.ServicerContext[pb.DeviceRef, pb.Status]
    ) -> pb.Status:
        calls.append(request.device_id)
        if len(calls) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this seed is not ready yet")
        return pb.Status(device_id=request.device_id)

    method = grpc.unary_unary_rpc_method_handler(
        get, pb.DeviceRef.FromString, pb.Status.SerializeToString
    )
    service = grpc.method_handlers_generic_handler("thermostat.v1.Thermostat", {"Get": method})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        monkeypatch.setenv("SEEDBED_ENTRY", f"127.0.0.1:{port}")
        looked = await asyncio.to_thread(browser.get, "/thermostats/kitchen")
        assert (looked.status_code, calls) == (200, ["kitchen"] * 2)
    finally:
        await server.stop(0)


async def test_a_blocking_view_calls_an_entity_and_outlasts_a_crash(
    tmp_path: Path, browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with thermostats(tmp_path) as cluster:
        monkeypatch.setenv("SEEDBED_ENTRY", cluster.entry)
        kitchen = "/thermostats/kitchen"
        told = await asyncio.to_thread(browser.post, kitchen, {"celsius": "21"})
        assert (told.status_code, told.json()["target"]) == (200, 21)

        refused = await asyncio.to_thread(browser.post, kitchen, {"celsius": "1000"})
        assert refused.status_code == 400
        assert refused.json()["message"].startswith("celsius is 1000")

        cluster.workers[0].kill()
        looked = [await asyncio.to_thread(browser.get, f"/thermostats/{n}") for n in range(8)]
        assert [answer.status_code for answer in looked] == [200] * 8
