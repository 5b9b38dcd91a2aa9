"""Modules as users write them, for tests of what finds and loads them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def user_modules(
    folder: Path, monkeypatch: pytest.MonkeyPatch, header: str
) -> Generator[Callable[[str], str]]:
    """Gives what writes a module below this header and says its name; they are forgotten after."""
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    names: list[str] = []

    def write(text: str) -> str:
        name = f"user_module_{len(names)}"
        (folder / f"{name}.py").write_text(header + text)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)
