"""The command line tool `seedbed` (extra `cli`)."""

from __future__ import annotations

import importlib.util
import sys

INSTALL = "pip install 'CHECKOUT[cli,gen,testing]' CHECKOUT/services/seed CHECKOUT/services/worker"
"""Until there is a release: CHECKOUT is the repository's folder."""

_NEEDED = ("typer", "rich", "grpc_reflection")


def main() -> None:
    """Entry point of `seedbed`."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"seedbed: {', '.join(missing)} not installed; run: {INSTALL}", file=sys.stderr)
        sys.exit(2)
    # Only now: these modules need what was looked for.
    from seedbed.cli.added import add_verbs
    from seedbed.cli.app import app

    add_verbs(app, sys.argv[1:])
    app()
