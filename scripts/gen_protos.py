# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "grpcio-tools==1.76.0",
#   "mypy-protobuf==5.1.0",
#   "googleapis-common-protos==1.70.0",
# ]
# ///
"""Regenerate the committed protobuf code: `uv run scripts/gen_protos.py`.

`--check` writes nothing and fails if the committed code is not what the .proto files give.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


@dataclass(frozen=True)
class Tree:
    """One folder of .proto files and the source folder that its code goes to."""

    source: Path
    target: Path
    services: bool
    """With stubs and servicers; else messages only."""
    copies: bool
    """With copies of the .proto files beside the code, for users to import."""
    by_seedbed_gen: bool = False
    """As users do it."""


TREES = (
    Tree(ROOT / "proto", ROOT / "src", services=True, copies=True),
    Tree(
        ROOT / "services" / "seed" / "proto",
        ROOT / "services" / "seed" / "src",
        services=False,
        copies=False,
    ),
    *(
        Tree(protos, protos.parent / "src", services=True, copies=False, by_seedbed_gen=True)
        for protos in sorted(ROOT.glob("examples/*/proto"))
    ),
    Tree(ROOT / "tests" / "protos", ROOT / "tests" / "protos", services=True, copies=False),
    Tree(ROOT / "tests" / "protos64", ROOT / "tests" / "protos64", services=True, copies=False),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare, write nothing")
    check: bool = parser.parse_args().check
    differing: list[Path] = []
    for tree in TREES:
        with tempfile.TemporaryDirectory() as scratch:
            fresh = Path(scratch)
            generate(tree, fresh)
            differing += differences(tree, fresh)
            if not check:
                install(tree, fresh)
    if check and differing:
        print("generated code is not what the .proto files give:", file=sys.stderr)
        for path in differing:
            print(f"  {path.relative_to(ROOT)}", file=sys.stderr)
        print("run: uv run scripts/gen_protos.py", file=sys.stderr)
        return 1
    return 0


def generate(tree: Tree, out: Path) -> None:
    sources = sorted(tree.source.rglob("*.proto"))
    if not sources:
        return
    if tree.by_seedbed_gen:
        sys.path.insert(0, str(ROOT / "src"))
        # Only now: it needs the code that the first tree is about.
        from seedbed.cli import gen

        gen.generate(tree.source, out)
        return
    outputs = ["python", "mypy"]
    if tree.services:
        outputs += ["grpc_python", "mypy_grpc"]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            *(f"-I{tree.source}", f"-I{ROOT / 'proto'}", f"-I{common_protos()}"),
            *(f"--{output}_out={out}" for output in outputs),
            *map(str, sources),
        ],
        check=True,
    )
    if tree.copies:
        for source in sources:
            shutil.copyfile(source, out / source.relative_to(tree.source))


def common_protos() -> Path:
    """Return the folder that holds `google/rpc/*.proto`."""
    spec = importlib.util.find_spec("google.rpc")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("googleapis-common-protos is missing: use `uv run scripts/gen_protos.py`")
    return Path(next(iter(spec.submodule_search_locations))).parent.parent


def generated_files(folder: Path, *, copies: bool) -> set[Path]:
    patterns = (*GENERATED, "*.proto") if copies else GENERATED
    return {path.relative_to(folder) for pattern in patterns for path in folder.rglob(pattern)}


def differences(tree: Tree, fresh: Path) -> list[Path]:
    """Return the committed files that are missing, left over or different."""
    names = generated_files(fresh, copies=tree.copies)
    committed = generated_files(tree.target, copies=tree.copies)
    return [
        tree.target / name
        for name in sorted(names | committed)
        if name not in names
        or name not in committed
        or (fresh / name).read_bytes() != (tree.target / name).read_bytes()
    ]


def install(tree: Tree, fresh: Path) -> None:
    names = generated_files(fresh, copies=tree.copies)
    for stale in generated_files(tree.target, copies=tree.copies) - names:
        (tree.target / stale).unlink()
    for name in names:
        (tree.target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fresh / name, tree.target / name)


if __name__ == "__main__":
    sys.exit(main())
