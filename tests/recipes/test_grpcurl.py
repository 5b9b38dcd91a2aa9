"""The grpcurl recipe, with the real grpcurl."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from tests.recipes.grpcurl import path_with_grpcurl
from tests.recipes.thermostats import RECIPES, output, thermostats

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


async def test_the_recipe_lists_describes_and_calls(tmp_path: Path) -> None:
    path = await path_with_grpcurl()
    async with thermostats(tmp_path) as cluster:
        out = await output(RECIPES / "grpcurl.sh", cluster.entry, PATH=path)
    assert "thermostat.v1.Thermostat\n" in out
    assert "rpc SetTarget ( .thermostat.v1.Target )" in out
    replies = [json.loads(text) for text in re.findall(r"^\{.*?^\}", out, re.DOTALL | re.MULTILINE)]
    assert [(reply["device_id"], reply["celsius"]) for reply in replies] == [("kitchen", 20.5)] * 2


async def test_grpcurl_shows_why_a_call_was_refused(tmp_path: Path) -> None:
    path = await path_with_grpcurl()
    async with thermostats(tmp_path) as cluster:
        get = (cluster.entry, "thermostat.v1.Thermostat/Get")
        process = await asyncio.create_subprocess_exec(
            *("grpcurl", "-plaintext", "-d", "{}", *get),
            env=os.environ | {"PATH": path},
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
    assert process.returncode != 0
    assert '"reason": "BAD_KEY"' in err.decode()
