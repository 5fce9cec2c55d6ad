"""A small file system of a test's own, which can be full."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import needed

_FILLER = "filler"
_BLOCK_BYTES = 65_536


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Give a file system in memory, of a size such as `4m`; only root may have one."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    needed("the right to mount a file system", mounted.returncode == 0)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Leave no byte free."""
    for size in (_BLOCK_BYTES, 1):
        with suppress(OSError), (disk / _FILLER).open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * size)
    assert shutil.disk_usage(disk).free == 0


def make_room(disk: Path) -> None:
    """Let go of what filled it."""
    (disk / _FILLER).unlink()
