"""What an error of asyncpg says of what was asked: was it done, and may it be asked again."""

from __future__ import annotations

import asyncpg

from seedbed.errors import SettingsError
from seedbed_worker.journal.port import InDoubt, JournalError, Unavailable

ADDRESS_HINT = "expected postgresql://USER:PASSWORD@HOST/DATABASE, special characters as %XX"

_OF_RECORDS = ("22", "23")
"""Classes of errors that what was sent is to blame for, and not the server's state."""


def refused(error: Exception) -> bool:
    """The server has said no, and is still there: nothing was done."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    # In the server's language only if it is so old, or a pooler, that it sends nothing else.
    return (error.severity_en or error.severity) == "ERROR"


def blames_records(error: Exception) -> bool:
    """The server has refused it for what is in it; something else may pass."""
    return (
        isinstance(error, asyncpg.PostgresError)
        and refused(error)
        and error.sqlstate[:2] in _OF_RECORDS
    )


def meaning(error: Exception) -> Exception:
    """A `JournalError` for what a statement has raised; what is not the driver's is left as it is.

    Its text has nothing of what was sent.
    """
    if isinstance(error, asyncpg.PostgresError) and refused(error):
        text = f"PostgreSQL refuses: {said(error)}"
        return JournalError(text) if blames_records(error) else Unavailable(text)
    if isinstance(error, asyncpg.InterfaceError):  # raised before anything is sent
        return JournalError(f"asyncpg refuses what it was given: {type(error).__name__}")
    if isinstance(error, OSError | asyncpg.PostgresError | asyncpg.InternalClientError):
        return InDoubt(f"the connection to PostgreSQL was lost: {said(error)}")
    return error


def no_connection(error: Exception) -> Exception:
    """The same for what connecting has raised: nothing was done."""
    if isinstance(error, asyncpg.PostgresError | asyncpg.InternalClientError | OSError):
        return Unavailable(f"no connection to PostgreSQL: {said(error)}")
    if isinstance(error, SettingsError):  # its file cannot be read now
        return Unavailable(str(error))
    if isinstance(error, ValueError | asyncpg.InterfaceError):
        # The error's own text may have a part of the password.
        return Unavailable(f"the address in SEEDBED_JOURNAL cannot be used: {ADDRESS_HINT}")
    return error


def said(error: Exception) -> str:
    """What it says, without its detail, in which there may be an entity's key."""
    if isinstance(error, asyncpg.PostgresError):
        state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
        return f"{error.args[0] if error.args else type(error).__name__}{state}"
    return str(error) or type(error).__name__
