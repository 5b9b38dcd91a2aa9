"""Code blocks of the pages: what a reader copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block; `name` is the file it is to be put into, if the page says one."""

    language: str
    name: str
    text: str
    before: str
    """What the page says before it."""


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        language, name, code = found.groups()
        yield Block(language, name, code, text[: found.start()])
