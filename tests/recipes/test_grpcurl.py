"""The grpcurl recipe and the calls that the README shows, with the real grpcurl."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.recipes.thermostats import RECIPES, ROOT, output, thermostats

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

BUILD_S = 800


async def path_with_grpcurl() -> str:
    found = await output(sys.executable, ROOT / "scripts" / "get_grpcurl", within=BUILD_S)
    return f"{Path(found.strip()).parent}{os.pathsep}{os.environ['PATH']}"


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


async def test_the_calls_of_the_readme_work(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    calls = re.findall(r"^    ((?:seedbed call|grpcurl) .*)$", readme, re.MULTILINE)
    assert {shlex.split(call)[0] for call in calls} == {"seedbed", "grpcurl"}
    path = os.pathsep.join([str(Path(sys.executable).parent), await path_with_grpcurl()])
    async with thermostats(tmp_path) as cluster:
        for call in calls:
            words = shlex.split(call.replace("127.0.0.1:4684", cluster.entry))
            out = await output(*words, PATH=path, SEEDBED_SEEDS=cluster.entry)
            assert "20.5" in out
