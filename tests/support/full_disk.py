"""Ways to leave processes no room for their files, and to give it back."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import Node

MIB = 2**20


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Generator[bool]:
    """Make this folder a disk of its own, in memory, if this machine permits that; True: it is."""
    folder.mkdir()
    options = f"size={size_mib}m"
    mounting = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Generator[None]:
    """All that the folder's disk has left is taken: writes end with ENOSPC."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        disk = os.statvfs(folder)
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize)
    yield
    filler.unlink()


@contextmanager
def limited(nodes: Iterable[Node], size: int) -> Generator[None]:
    """No file may grow past so many bytes, as under a quota: writes end with EFBIG."""
    pids = [node.process.pid for node in nodes]
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids]
    for pid, (_, hard) in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    yield
    for pid, limits in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
