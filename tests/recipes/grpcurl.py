"""The real grpcurl, built where the machine has none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.recipes.thermostats import ROOT, output

BUILD_S = 800


async def path_with_grpcurl() -> str:
    """A PATH on which there is a grpcurl."""
    found = await output(sys.executable, ROOT / "scripts" / "get_grpcurl", within=BUILD_S)
    return f"{Path(found.strip()).parent}{os.pathsep}{os.environ['PATH']}"
