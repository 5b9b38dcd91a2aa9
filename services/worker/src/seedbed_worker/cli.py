"""Commands of `seedbed` that are there where this distribution is: they speak to the journal."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated

import typer

from seedbed.cli.asking import FormOption
from seedbed.cli.failure import Failure, Form, refused, reporting, unreachable, wrong_usage
from seedbed.errors import Reason
from seedbed.settings import Reader
from seedbed_worker.config import journal_secret
from seedbed_worker.journal.port import JournalError, Unavailable, WrongJournal

journal = typer.Typer(help="The journal, which keeps what entities did (SEEDBED_JOURNAL).")


def add_to(app: typer.Typer) -> None:
    """Make them part of `seedbed`."""
    app.add_typer(journal, name="journal")


@journal.callback()
def _group() -> None:
    """So that `migrate` is a command of its own while it is the only one."""


@journal.command()
def migrate(
    print_: Annotated[
        bool, typer.Option("--print", help="Only print the SQL that it would run, for psql.")
    ] = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Bring the schema of a PostgreSQL journal to this release's."""
    with reporting(output):
        address = journal_secret(Reader(os.environ, role="worker")).read()
        if address == "none":
            raise wrong_usage("SEEDBED_JOURNAL: found 'none', expected a journal to migrate")
        is_file = address.startswith("sqlite:")
        try:
            sql, applied = ("", []) if is_file else asyncio.run(_migrate(address, print_))
        except JournalError as error:
            raise _failure(error) from None
        if output is Form.JSON:
            print(json.dumps({"sql": sql} if print_ else {"applied": applied}))
        elif is_file:
            print("nothing to do: a SQLite file is migrated when a worker opens it")
        elif print_:
            print(sql, end="")
        else:
            print("\n".join(f"applied {name}" for name in applied) or "nothing to do")


async def _migrate(address: str, print_: bool) -> tuple[str, list[str]]:
    """The SQL that is pending if it is only to be printed; the names of what was applied."""
    from seedbed_worker.journal import postgres_schema  # its driver costs other commands 0.1 s

    if print_:
        return await postgres_schema.pending_sql(address), []
    return "", list(await postgres_schema.migrate(address))


def _failure(error: JournalError) -> Failure:
    if isinstance(error, Unavailable):
        return unreachable(str(error))
    if isinstance(error, WrongJournal):
        return refused("FAILED_PRECONDITION", str(error), reason=Reason.WRONG_JOURNAL.value)
    return refused("ABORTED", str(error))
