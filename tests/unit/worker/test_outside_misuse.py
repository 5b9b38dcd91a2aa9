"""Where outside() does not belong."""

from __future__ import annotations

import pytest

from seedbed.calls import Failed
from tests.unit.worker.host_world import (
    LOG,
    refused,
    world,
)
from tests.unit.worker.outside_world import Volatile, leave


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("nested", "inside `async with self.outside():` there is no turn"),
        ("later", "its turn is over"),
        ("child", "use it in the method's own task"),
    ],
)
async def test_misuse_says_what_to_do(how: str, says: str) -> None:
    async with world(Volatile) as w:
        answer = await w.run(w.call("Act", how=how))
        assert isinstance(answer, Failed)
        assert answer.message == "misused"
        assert says in LOG[0]
        assert not w.host.homes["probe"].cells


async def test_in_the_block_nothing_of_the_turn_is_there() -> None:
    async with world(Volatile) as w:
        await w.run(w.call("Act", how="in the block"))
        for name, text in zip(
            ("save()", "delete()", "passivate()", "changes()", "self.turn"), LOG, strict=True
        ):
            assert text.startswith(f"{name}: inside `async with self.outside():`")


async def test_a_stream_cannot_leave() -> None:
    async with world(Volatile) as w:
        watching = w.watch(w.call("Watch", how="outside"))
        await watching.item()
        assert refused(await watching.end()).message == "RuntimeError"
        assert LOG == []


class Hooked(Volatile, durable=False):
    async def activated(self) -> None:
        await leave(self)


async def test_a_hook_cannot_leave(caplog: pytest.LogCaptureFixture) -> None:
    async with world(Hooked) as w:
        assert refused(await w.run(w.call("Read"))).message == "RuntimeError"
    assert "outside(): not in a hook" in caplog.text
