"""Functions that give factories: when they are entered and left, and how they fail."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from seedbed.errors import SettingsError
from seedbed_worker import resources
from seedbed_worker.resources import entered
from tests.unit.worker.user_modules import user_modules

HEADER = """
import asyncio
from contextlib import asynccontextmanager
from functools import partial
from probe.v1 import probe_pb2 as pb, probe_pb2_grpc as rpc
from seedbed import Entity

told = []

class Mine(Entity, rpc.ProbeServicer):
    def __init__(self, pool): self.pool = pool
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module and gives its name."""
    with user_modules(tmp_path, monkeypatch, HEADER) as write:
        yield write


def told(name: str) -> list[str]:
    """What the module's functions have noted down."""
    module: ModuleType = sys.modules[name]
    noted: list[str] = module.told
    return noted


POOLS = """
@asynccontextmanager
async def one():
    told.append("one in")
    async with asyncio.TaskGroup():
        yield [partial(Mine, "pool")]
        told.append("one out")

@asynccontextmanager
async def two():
    told.append("two in")
    try:
        yield (Mine,)
    finally:
        await asyncio.sleep(0)
        told.append("two out")
"""


async def test_functions_are_entered_in_order_and_left_in_reverse(
    module: Callable[[str], str],
) -> None:
    name = module(POOLS)
    names = [f"{name}:one", f"{name}:two", f"{name}:Mine"]
    async with entered(names, limit_s=5, stop=asyncio.Event()) as factories:
        first, second, third = factories
        assert vars(first())["pool"] == "pool"
        assert second is third
        assert told(name) == ["one in", "two in"]
    assert told(name) == ["one in", "two in", "two out", "one out"]


async def test_the_worker_s_failure_goes_through_and_is_not_theirs(
    module: Callable[[str], str],
) -> None:
    name = module(
        "@asynccontextmanager\n"
        "async def swallows():\n"
        "    try: yield [Mine]\n"
        "    except Exception: told.append('seen')\n"
        "    told.append('out')\n"
    )
    with pytest.raises(ZeroDivisionError):
        async with entered([f"{name}:swallows"], limit_s=5, stop=asyncio.Event()):
            raise ZeroDivisionError
    assert told(name) == ["out"]


FAILING = """
@asynccontextmanager
async def fine():
    told.append("in")
    yield [Mine]
    told.append("out")

@asynccontextmanager
async def raises():
    raise KeyError("DATABASE_URL")
    yield [Mine]

@asynccontextmanager
async def slow():
    try:
        await asyncio.sleep(60)
    finally:
        told.append("given up")
    yield [Mine]

@asynccontextmanager
async def times_out():
    raise TimeoutError("no database")
    yield [Mine]

@asynccontextmanager
async def gives_one():
    try: yield Mine
    finally: told.append("one out")

@asynccontextmanager
async def gives_text(): yield ["Mine"]

@asynccontextmanager
async def gives_lambda(): yield [lambda: Mine(1)]

@asynccontextmanager
async def gives_nothing(): yield []

@asynccontextmanager
async def needs(pool): yield [Mine]

async def bare(): yield [Mine]
async def coroutine(): return [Mine]
def plain(): return [Mine]
"""


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("raises", "raises KeyError: 'DATABASE_URL' ("),
        ("slow", "was not entered within 0.05 s (SEEDBED_RESOURCES_TIMEOUT_S)"),
        ("times_out", "raises TimeoutError: no database ("),
        ("gives_one", "yields type, expected a list of factories"),
        ("gives_text", "yields an instance of str, expected a list of factories"),
        ("gives_lambda", "<lambda>, expected a list of factories"),
        ("gives_nothing", "yields nothing, expected a list of factories"),
        ("needs", "raises TypeError: needs() missing 1 required positional argument: 'pool'"),
        ("bare", "is not decorated, expected a function made by @contextlib.asynccontextmanager"),
        ("coroutine", "is not decorated, expected"),
        ("plain", "gives list, expected a function made by @contextlib.asynccontextmanager"),
    ],
)
async def test_a_function_that_fails_is_one_line_that_names_it(
    module: Callable[[str], str], function: str, expected: str
) -> None:
    name = module(FAILING)
    limit_s = 0.05 if function == "slow" else 5
    with pytest.raises(SettingsError) as caught:
        async with entered(
            [f"{name}:fine", f"{name}:{function}"], limit_s=limit_s, stop=asyncio.Event()
        ):
            raise AssertionError
    text = str(caught.value)
    assert f"{name}:{function}" in text
    assert expected in text
    assert text.startswith("SEEDBED_ENTITIES: ")
    assert "\n" not in text
    if "(" in expected and function in ("raises", "times_out"):
        assert f"{name}.py:" in text
    extra = {"slow": ["given up"], "gives_one": ["one out"]}.get(function, [])
    assert told(name) == ["in", *extra, "out"]


async def test_a_stop_while_entering_ends_the_start(module: Callable[[str], str]) -> None:
    name = module(FAILING)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, stop.set)
    async with asyncio.timeout(5):
        async with entered(
            [f"{name}:fine", f"{name}:slow", f"{name}:raises"], limit_s=60, stop=stop
        ) as factories:
            assert len(factories) == 1
            assert told(name) == ["in", "given up"]
    assert told(name) == ["in", "given up", "out"]


async def test_what_fails_in_leaving_is_logged_and_the_others_are_left(
    module: Callable[[str], str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "LEAVE_S", 0.05)
    name = module(
        FAILING
        + "@asynccontextmanager\n"
        + "async def breaks():\n"
        + "    yield [Mine]\n"
        + "    raise OSError('closed twice')\n"
        + "@asynccontextmanager\n"
        + "async def hangs():\n"
        + "    yield [Mine]\n"
        + "    await asyncio.sleep(60)\n"
    )
    names = [f"{name}:fine", f"{name}:hangs", f"{name}:breaks"]
    async with entered(names, limit_s=5, stop=asyncio.Event()):
        pass
    logged = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [vars(r)["function"] for r in logged] == [f"{name}:breaks", f"{name}:hangs"]
    assert [r.exc_info[0] for r in logged if r.exc_info] == [OSError, TimeoutError]
    assert told(name) == ["in", "out"]
