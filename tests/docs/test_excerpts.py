"""Code that the pages show is an excerpt of a file that is type-checked and run.

A block may leave something out by a line `...`.
"""

from __future__ import annotations

import re
import textwrap
from functools import cache
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, blocks

LANGUAGES = {"python", "proto", "js"}
SOURCES = (
    "examples/*/src/*/*.py",
    "examples/*/tests/*.py",
    "examples/*/proto/**/*.proto",
    "tests/typing/programs/*.py",
)
PAGES = sorted(
    [ROOT / "README.md", ROOT / "docs" / "recipes.md", *(ROOT / "docs" / "entities").glob("*.md")]
)
RUN = "with grpc.insecure_channel("
"""The client of the README: `tests/recipes/test_readme.py` runs it."""


@cache
def sources() -> dict[str, str]:
    paths = [path for pattern in SOURCES for path in sorted(ROOT.glob(pattern))]
    recipes = [path for path in (ROOT / "docs" / "recipes").rglob("*") if path.is_file()]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in (*paths, *recipes)}


def is_excerpt(code: str, source: str) -> bool:
    """Each part of the code stands in the source, at one indentation or another."""
    parts = re.split(r"^ *\.\.\.\n", code, flags=re.MULTILINE)
    return all(
        any(f"\n{textwrap.indent(part, ' ' * depth)}" in f"\n{source}" for depth in (0, 4, 8, 12))
        for part in parts
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_is_code_that_runs(page: Path) -> None:
    strangers = [
        block.text
        for block in blocks(page)
        if block.language in LANGUAGES
        and RUN not in block.text
        and not any(is_excerpt(block.text, source) for source in sources().values())
    ]
    assert not strangers, "\n".join(strangers)


def test_an_excerpt_is_told_from_what_is_not_there() -> None:
    source = "class A:\n    def f(self) -> None:\n        one()\n        two()\n        three()\n"
    assert is_excerpt("one()\ntwo()\n", source)
    assert is_excerpt("one()\n...\nthree()\n", source)
    assert not is_excerpt("one()\nthree()\n", source)


def test_a_block_is_found_with_its_file() -> None:
    page = ROOT / "docs" / "entities.md"
    named = [block for block in blocks(page) if block.name]
    assert "polls.py" in {block.name for block in named}
    for block in named:
        assert f"`{block.name}`" in last_sentence(block), block.name


def last_sentence(block: Block) -> str:
    return block.before.rstrip().rpartition("\n\n")[2]
