"""Each example on two workers of a real cluster, called by its own client script."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.cluster import cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Script:
    """An example's client."""

    def __init__(self, module: str, entry: str) -> None:
        self._command = (sys.executable, "-m", module, "--entry", entry)

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output, with the errors."""
        process = await self.start(*arguments)
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )


async def test_bank_moves_money_between_accounts_of_both_workers(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, entities="bank.account,bank.transfer", worker_env=journal(tmp_path)
    ) as running:
        await running.placed(2)
        bank = Script("bank.client", running.entry)
        assert await bank.run("deposit", "alice", "100") == (0, "alice: 100 cents\n")
        for number in range(8):  # transfers of 8 ids, to 8 accounts: on both workers
            name = f"t-{number}"
            moved = await bank.run("transfer", "alice", f"friend-{number}", "10", "--id", name)
            assert moved == (0, f"{name}: DONE\n")
        assert await bank.run("balance", "alice") == (0, "alice: 20 cents\n")
        assert await bank.run("balance", "friend-7") == (0, "friend-7: 10 cents\n")
        code, said = await bank.run("transfer", "alice", "bob", "30", "--id", "too-much")
        assert (code, said) == (0, "too-much: REFUSED alice has 20 cents, 30 are asked for\n")
        code, said = await bank.run("balance", "bob")
        assert (code, said) == (1, "NOT_FOUND: there is no account bob\n")


async def test_chat_brings_what_is_said_to_watchers_and_inboxes(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, entities="chat.room,chat.user", worker_env=journal(tmp_path)
    ) as running:
        await running.placed(2)
        chat = Script("chat.client", running.entry)
        code, said = await chat.run("--as", "ann", "say", "general", "anybody here?")
        assert code == 0, said
        watching = await chat.start("--as", "ann", "watch", "general")
        try:
            assert (await line(watching)).endswith("acme/general ann: anybody here?\n")
            code, said = await chat.run("--as", "bob", "say", "general", "hello")
            assert code == 0, said
            assert (await line(watching)).endswith("acme/general bob: hello\n")
        finally:
            watching.kill()
            await watching.wait()
        code, inbox = await chat.run("--as", "ann", "inbox")
        assert (code, len(inbox.splitlines())) == (0, 2)
        assert inbox.endswith("acme/general bob: hello\n")


def journal(folder: Path) -> dict[str, str]:
    """The workers' setting: one file for all of them."""
    return {"SEEDBED_JOURNAL": f"sqlite:///{folder}/seedbed.db"}


async def line(process: asyncio.subprocess.Process) -> str:
    """The next line that a script prints."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode()


async def test_limiter_takes_its_settings_from_the_workers_environment(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, entities="limiter.entity:entities", worker_env={"LIMITER_BURST": "3"}
    ) as running:
        await running.placed(2)
        limiter = Script("limiter.client", running.entry)
        assert await limiter.run("alice", "3") == (0, "allowed, 0 left\n")
        code, said = await limiter.run("alice", "4")
        assert (code, said) == (2, "INVALID_ARGUMENT: tokens is 4, but the bucket holds 3\n")
