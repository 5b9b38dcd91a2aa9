"""The calls and the client that the README shows."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks
from tests.recipes.grpcurl import path_with_grpcurl
from tests.recipes.thermostats import ROOT, output, thermostats

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

README = ROOT / "README.md"
ENTRY = "127.0.0.1:4684"


async def test_the_calls_work(tmp_path: Path) -> None:
    calls = re.findall(
        r"^    ((?:seedbed call|grpcurl) .*)$", README.read_text("utf-8"), re.MULTILINE
    )
    assert {shlex.split(call)[0] for call in calls} == {"seedbed", "grpcurl"}
    path = os.pathsep.join([str(Path(sys.executable).parent), await path_with_grpcurl()])
    async with thermostats(tmp_path) as cluster:
        for call in calls:
            words = shlex.split(call.replace(ENTRY, cluster.entry))
            out = await output(*words, PATH=path, SEEDBED_SEEDS=cluster.entry)
            assert "20.5" in out


async def test_the_client_works(tmp_path: Path) -> None:
    [client] = [block.text for block in blocks(README) if "insecure_channel" in block.text]
    assert ENTRY in client
    async with thermostats(tmp_path) as cluster:
        out = await output(sys.executable, "-c", client.replace(ENTRY, cluster.entry))
        assert "celsius: 20.5" in out
