"""Verbs that other distributions add to `seedbed`.

Each is an entry point of the group `seedbed.cli`: its name is the verb, and what it names is a
function that adds the verb to the application. It is loaded only for its verb and for the help, so
that the other verbs need nothing of what it imports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Final

import typer

GROUP: Final = "seedbed.cli"


def add_verbs(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Add what these arguments of the command line ask for."""
    verb = next((word for word in arguments if not word.startswith("-")), "")
    for added in entry_points(group=GROUP):
        if verb in ("", added.name):
            add_to: Callable[[typer.Typer], None] = added.load()
            add_to(app)
