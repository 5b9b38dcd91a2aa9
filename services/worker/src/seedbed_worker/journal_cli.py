"""`seedbed journal`: verbs for the journal itself, which ask no seed.

`add_journal` is an entry point of the group `seedbed.cli`.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated

import typer

from seedbed.cli.asking import FormOption
from seedbed.cli.failure import EXIT_FAILED, Failure, Form, reporting, unreachable, wrong_usage
from seedbed.errors import Reason
from seedbed.settings import Reader
from seedbed_worker.config import journal_address
from seedbed_worker.journal import postgres_schema
from seedbed_worker.journal.open import SQLITE
from seedbed_worker.journal.port import JournalError, Unavailable, WrongJournal

journal = typer.Typer(help="The journal, which keeps what entities did (SEEDBED_JOURNAL).")


def add_journal(app: typer.Typer) -> None:
    """Make `journal …` part of `seedbed`."""
    app.add_typer(journal, name="journal")


@journal.callback()
def _group() -> None:
    """So that `migrate` is a word of its own while it is the only one."""


@journal.command()
def migrate(
    print_: Annotated[
        bool, typer.Option("--print", help="Only print the SQL that it would run, for psql.")
    ] = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Bring the schema of a PostgreSQL journal to this release's."""
    with reporting(output):
        address = journal_address(Reader(os.environ, role="worker")).read()
        if address == "none":
            raise wrong_usage("SEEDBED_JOURNAL: found 'none', expected the journal to migrate")
        is_file = address.startswith(SQLITE)
        try:
            sql, applied = ("", []) if is_file else asyncio.run(_migrate(address, print_))
        except JournalError as error:
            raise _failure(error) from error
        if output is Form.JSON:
            print(json.dumps({"sql": sql} if print_ else {"applied": applied}))
        elif is_file:
            print("nothing to do: a SQLite file is migrated when a worker opens it")
        elif print_:
            print(sql, end="")
        else:
            print("\n".join(f"applied {name}" for name in applied) or "nothing to do")


async def _migrate(address: str, print_: bool) -> tuple[str, list[str]]:
    """The SQL that is pending, if it is only to be printed; the names of what was applied."""
    if print_:
        return await postgres_schema.pending_sql(address), []
    return "", list(await postgres_schema.migrate(address))


def _failure(error: JournalError) -> Failure:
    if isinstance(error, Unavailable):
        return unreachable(str(error))
    reason = Reason.WRONG_JOURNAL.value if isinstance(error, WrongJournal) else ""
    return Failure("FAILED_PRECONDITION", str(error), reason=reason, exit_code=EXIT_FAILED)
