"""`seedbed up` as a parent: it starts, watches and stops its processes, and leaves none behind.

Seeds and workers are small stand-ins here, so that they can be made to misbehave; the real ones are
in `test_up`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.integration.cli.running import Run, up
from tests.support.waiting import until

pytestmark = pytest.mark.integration

STAND_IN = """
import json, os, signal, sys
role, node = "{role}", os.environ["SEEDBED_NODE_ID"]
{before}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("some user's print")
print("READY", json.dumps(dict(role=role, node=node, grpc="127.0.0.1:9", http="127.0.0.1:9")))
sys.stdout.flush()
{after}
while True:
    signal.pause()
"""


def stand_in(folder: Path, role: str, *, before: str = "", after: str = "") -> None:
    package = folder / f"seedbed_{role}"
    package.mkdir()
    (package / "__init__.py").touch()
    text = STAND_IN.format(role=role, before=before, after=after)
    (package / "__main__.py").write_text(text)


def stand_ins(folder: Path, *arguments: str, **environ: str) -> AbstractAsyncContextManager[Run]:
    return up(folder, "--entities", "x", *arguments, **{"SEEDBED_ETCD": "memory"} | environ)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_ctrl_c_stops_all_in_order_and_exits_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    stand_in(tmp_path, "seed")
    stand_in(tmp_path, "worker")
    async with stand_ins(tmp_path) as run:
        data = Path(str((await run.event("up"))["data"]))
        assert data.is_dir()
        pids = run.pids()
        assert len(pids) == 3
        run.process.send_signal(number)
        stopped = [(await run.event("stopped"))["name"] for _ in range(3)]
        assert await run.end() == (0, "")
        assert stopped[-1] == "seed-1"
        assert not any(alive(pid) for pid in pids)
        assert not data.exists()


async def test_data_that_was_asked_for_is_kept_with_the_logs(tmp_path: Path) -> None:
    stand_in(tmp_path, "seed")
    stand_in(tmp_path, "worker")
    async with stand_ins(tmp_path, "--data", "here", "--workers", "1") as run:
        await run.event("up")
        run.process.send_signal(signal.SIGINT)
        assert (await run.end())[0] == 0
    assert "some user's print" in (tmp_path / "here" / "logs" / "worker-1.log").read_text()


async def test_a_process_that_dies_at_start_ends_all_with_its_last_lines(tmp_path: Path) -> None:
    stand_in(tmp_path, "seed")
    stand_in(tmp_path, "worker", before="sys.exit('no such module: x')")
    async with stand_ins(tmp_path, "--workers", "1") as run:
        await run.event("ready")
        code, errors = await run.end()
        assert code == 1
        assert "worker-1: ended with code 1 before it was ready" in errors
        assert "no such module: x" in errors
        assert not any(alive(pid) for pid in run.pids())


async def test_a_bad_setting_of_a_process_is_wrong_usage(tmp_path: Path) -> None:
    stand_in(
        tmp_path,
        "seed",
        before="print('SEEDBED_PORT: in use', file=sys.stderr); sys.exit(2)",
    )
    stand_in(tmp_path, "worker")
    async with stand_ins(tmp_path) as run:
        code, errors = await run.end()
        assert code == 2
        assert "SEEDBED_PORT: in use" in errors


async def test_a_kill_of_up_itself_leaves_no_orphans(tmp_path: Path) -> None:
    stand_in(tmp_path, "seed")
    stand_in(tmp_path, "worker", after="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    async with stand_ins(tmp_path) as run:
        await run.event("up")
        pids = run.pids()
        assert all(alive(pid) for pid in pids)
        run.process.kill()
        await until("all children are gone", lambda: not any(alive(pid) for pid in pids), within=10)


async def test_a_second_ctrl_c_kills_what_does_not_stop(tmp_path: Path) -> None:
    stand_in(tmp_path, "seed")
    stand_in(tmp_path, "worker", after="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    async with stand_ins(tmp_path, "--workers", "1") as run:
        await run.event("up")
        run.process.send_signal(signal.SIGINT)
        await run.event("stopping")
        run.process.send_signal(signal.SIGINT)
        assert (await run.event("ended"))["code"] == -signal.SIGKILL
        assert (await run.end())[0] == 0


async def test_a_worker_that_dies_later_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    stand_in(tmp_path, "seed")
    stand_in(tmp_path, "worker")
    async with stand_ins(tmp_path) as run:
        await run.event("up")
        seed, first, second = run.pids()
        os.kill(second, signal.SIGKILL)
        ended = await run.event("ended")
        assert ended["code"] == -signal.SIGKILL
        assert alive(seed)
        assert alive(first)


async def test_errors_in_logs_are_shown(tmp_path: Path) -> None:
    line = '{"level": "error", "event": "turn failed"}'
    stand_in(tmp_path, "seed")
    stand_in(tmp_path, "worker", after=f"print({line!r}, file=sys.stderr, flush=True)")
    async with stand_ins(tmp_path, "--workers", "1") as run:
        await run.event("up")
        assert run.process.stderr is not None
        async with asyncio.timeout(10):
            assert b"worker-1: {" in await run.process.stderr.readline()


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (("--seeds", "2"), {}, "several seeds need etcd"),
        ((), {"SEEDBED_ETCD": "", "SEEDBED_ETCD_BIN": "/not/there"}, "SEEDBED_ETCD_BIN: found"),
        (("--entities", ""), {}, "expected a module"),
    ],
)
async def test_what_cannot_be_started_is_wrong_usage(
    tmp_path: Path, arguments: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    stand_in(tmp_path, "seed")
    stand_in(tmp_path, "worker")
    async with stand_ins(tmp_path, *arguments, **environ) as run:
        code, errors = await run.end()
        assert code == 2
        assert said in errors


async def test_services_that_are_not_installed_are_named(tmp_path: Path) -> None:
    finder = tmp_path / "sitecustomize.py"
    finder.write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'seedbed_seed' else find(name, *a)\n"
    )
    async with stand_ins(tmp_path) as run:
        code, errors = await run.end()
        assert code == 2
        assert "seedbed_seed is not installed; run: pip install" in errors
