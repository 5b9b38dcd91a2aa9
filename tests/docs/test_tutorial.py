"""The tutorial, done as it says: in an empty folder, with what this checkout installs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PAGE = ROOT / "docs" / "entities.md"
COMMAND_S = 300
FIRST_SEED = "127.0.0.1:4684"


class Reader:
    """Somebody who does what the page says, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seed = FIRST_SEED
        self.typed: list[str] = []

    def write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(FIRST_SEED, self._seed))

    def run(self, commands: str) -> str:
        """What the commands print; the first one that fails ends the test."""
        self.typed += commands.splitlines()
        script = commands.replace("CHECKOUT", str(ROOT))
        if (self._folder / ".venv").exists():
            script = f". .venv/bin/activate\n{script}"
        ended = subprocess.run(
            ["bash", "-euc", f"{script}\npwd"],
            cwd=self._folder,
            env=environment(SEEDBED_SEEDS=self._seed),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        assert ended.returncode == 0, f"{commands}\n{ended.stdout}\n{ended.stderr}"
        out, _, folder = ended.stdout.rstrip().rpartition("\n")
        self._folder = Path(folder)
        return out

    @contextmanager
    def up(self, command: str) -> Generator[None]:
        """`seedbed up` in a second terminal; on free ports, so that it can run beside others."""
        self.typed.append(command)
        program = self._folder / ".venv" / "bin" / "seedbed"
        process = subprocess.Popen(
            [program, *command.split()[1:], "--free-ports", "-o", "json"],
            cwd=self._folder,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            told = (json.loads(line) for line in process.stdout)
            self._seed = next(event["seed"] for event in told if event["event"] == "try")
            yield
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()

    def checked(self, *command: str | Path) -> None:
        """A type checker of ours finds nothing in the folder."""
        ended = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


def environment(**settings: str) -> dict[str, str]:
    """As in a new terminal: nothing of this checkout's own environment."""
    foreign = ("SEEDBED_", "PYTHONPATH", "VIRTUAL_ENV")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    clean["PATH"] = os.pathsep.join(
        folder for folder in clean["PATH"].split(os.pathsep) if not folder.startswith(str(ROOT))
    )
    return clean | settings


def test_the_install_line_is_the_readmes() -> None:
    line = re.search(
        r"^ +(pip install '.*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert line is not None
    assert f"\n{line[1]}\n" in PAGE.read_text("utf-8")


def test_the_tutorial_works_as_it_says(tmp_path: Path) -> None:
    reader, said = Reader(tmp_path), ""
    with ExitStack() as running:
        for block in blocks(PAGE):
            if block.name:
                reader.write(block.name, block.text)
            elif block.text.startswith("seedbed up "):
                running.enter_context(reader.up(block.text.strip()))
            elif block.language == "sh":
                said = reader.run(block.text)
            else:
                assert block.language == "text"
                for line in block.text.splitlines():
                    assert line in said, f"expected {line!r} in:\n{said}"
    assert any(line.startswith("python vote.py") for line in reader.typed)

    code = ("polls.py", "test_polls.py", "vote.py")
    python = Path(".venv", "bin", "python")
    reader.checked("mypy", "--strict", "--python-executable", python, *code)
    reader.write("pyrightconfig.json", json.dumps({"typeCheckingMode": "strict", "include": code}))
    reader.checked("pyright", "--pythonpath", python)
