"""What users write is clean under mypy strict and pyright strict, against stubs of `seedbed gen`.

The programs of `programs/`, and all examples with their tests, in one run of each checker.
`mistakes.py` there shows that the checkers do look.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from seedbed.cli.gen import generate

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
MISTAKES = "mistakes.py"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs and the examples, with code made just now."""
    folder = tmp_path_factory.mktemp("projects")
    old_code = shutil.ignore_patterns("*_pb2*", "__pycache__")
    shutil.copytree(HERE / "programs", folder / "programs" / "src", ignore=old_code)
    generate(HERE / "proto", folder / "programs" / "src")
    for protos in sorted(ROOT.glob("examples/*/proto")):
        target = folder / protos.parent.name
        shutil.copytree(protos.parent, target, ignore=old_code)
        generate(protos, target / "src")
    return folder


def test_programs_and_examples_are_clean_under_mypy(projects: Path) -> None:
    (projects / "mypy.ini").write_text(
        "[mypy]\n"
        "strict = True\n"
        "explicit_package_bases = True\n"
        "exclude = _pb2(_grpc)?\\.pyi?$\n"
        f"mypy_path = {','.join(map(str, _sources(projects)))}\n"
        f"cache_dir = {ROOT / '.cache' / 'mypy-typing'}\n"
        # googleapis-common-protos has stubs, and does not say so.
        "[mypy-google.rpc.*]\n"
        "follow_untyped_imports = True\n"
    )
    output = _run(projects, "mypy", "--config-file", "mypy.ini", "--no-error-summary", ".")
    found = re.findall(r"^(\S+?):(\d+): error: (.*)$", output, re.MULTILINE)
    _compare([(projects / file, int(line), text) for file, line, text in found], output)


def test_programs_and_examples_are_clean_under_pyright(projects: Path) -> None:
    settings = {
        "typeCheckingMode": "strict",
        "extraPaths": [str(folder) for folder in _sources(projects)],
        "exclude": ["**/*_pb2.py*", "**/*_pb2_grpc.py*"],
    }
    (projects / "pyrightconfig.json").write_text(json.dumps(settings))
    options = ("--outputjson", "--pythonpath", sys.executable, "--project", ".")
    output = _run(projects, "pyright", *options)
    report = json.loads(output)
    assert report["summary"]["filesAnalyzed"] > len(list(HERE.glob("programs/*.py")))
    found = [
        (Path(one["file"]), one["range"]["start"]["line"] + 1, one["message"])
        for one in report["generalDiagnostics"]
    ]
    _compare(found, output)


def test_the_users_tests_of_the_programs_pass(projects: Path) -> None:
    folder = projects / "programs" / "src"
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio")
    output = _run(folder, "pytest", *options, "order_paid.py", "transfer_done.py")
    assert re.search(r"^4 passed", output, re.MULTILINE), output


def test_they_need_no_ignore_and_no_cast() -> None:
    programs = [
        *HERE.glob("programs/*.py"),
        *(path for path in ROOT.glob("examples/*/*/**/*.py") if "_pb2" not in path.name),
    ]
    assert len(programs) > 5
    for path in programs:
        found = re.search(r"type: *ignore|pyright:|\bcast\(|\bAny\b", path.read_text())
        assert found is None, f"{path.relative_to(ROOT)}: {found}"


def _compare(found: Sequence[tuple[Path, int, str]], output: str) -> None:
    """Errors are where `mistakes.py` says, and nowhere else."""
    stray = [one for one in found if one[0].name != MISTAKES]
    assert not stray, output
    lines = (HERE / "programs" / MISTAKES).read_text().splitlines()
    expected = {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}
    assert {line for _, line, _ in found} == expected, output


def _sources(projects: Path) -> list[Path]:
    return sorted(projects.glob("*/src"))


def _run(folder: Path, module: str, *options: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    return ended.stdout
