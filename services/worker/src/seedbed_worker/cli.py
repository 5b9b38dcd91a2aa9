"""The worker's part of the command line `seedbed`: verbs that need the journal.

`add_…` are entry points of the group `seedbed.cli`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from seedbed.cli.asking import FormOption, SeedOption, ask, show_answer
from seedbed.cli.connection import CALL_LIMIT_S
from seedbed.cli.failure import EXIT_FAILED, Failure, Form, reporting, wrong_usage
from seedbed.errors import Reason
from seedbed.settings import Reader
from seedbed.v1 import admin_pb2, admin_pb2_grpc
from seedbed_worker.config import journal_address
from seedbed_worker.journal.adopting import adopt as adopt_journal
from seedbed_worker.journal.open import journal_at
from seedbed_worker.journal.port import JournalError, Whose, WrongJournal


def add_adopt(app: typer.Typer) -> None:
    """Make `adopt` part of `seedbed`."""
    app.command()(adopt)


def adopt(
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also a journal that was never used, or instead of another one of this cluster.",
        ),
    ] = False,
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Bind the journal (SEEDBED_JOURNAL) to this cluster, after it has lost its etcd.

    No other cluster may use the journal: it would be disturbed.
    """
    with reporting(output):
        reader = Reader(os.environ, role="worker")
        address, cluster = journal_address(reader), reader.name("SEEDBED_CLUSTER")
        if address.read() == "none":
            raise wrong_usage("SEEDBED_JOURNAL: found 'none', expected the journal to adopt")
        answers: list[admin_pb2.AdoptJournalResponse] = []

        def pin(whose: Whose) -> str:
            request = admin_pb2.AdoptJournalRequest(
                cluster=whose.cluster,
                journal_id=whose.journal_id,
                timeline=whose.timeline,
                force=force,
            )

            def order(admin: admin_pb2_grpc.AdminStub) -> admin_pb2.AdoptJournalResponse:
                return admin.AdoptJournal(request, timeout=CALL_LIMIT_S)

            answers.append(ask(seed, order))
            return answers[-1].cluster_uid

        journal = journal_at(address, create=False)
        try:
            asyncio.run(adopt_journal(journal, cluster, pin, fresh=force))
        except JournalError as error:
            raise _failure(error) from error
        show_answer(answers[-1], output, _adopted)


def _adopted(answer: admin_pb2.AdoptJournalResponse) -> str:
    return (
        f"journal {answer.journal_id} is bound to the cluster {answer.cluster}, uid"
        f" {answer.cluster_uid}: workers that were refused join within 15 s"
    )


def _failure(error: JournalError) -> Failure:
    if isinstance(error, WrongJournal):
        reason = Reason.WRONG_JOURNAL.value
        return Failure("FAILED_PRECONDITION", str(error), reason=reason, exit_code=EXIT_FAILED)
    reason = Reason.STORE_UNAVAILABLE.value
    return Failure("UNAVAILABLE", str(error), reason=reason, exit_code=EXIT_FAILED)
