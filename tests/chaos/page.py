"""docs/bench/chaos.md: one page of two programs, each of which writes its own part anew."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.machine import ROOT, Machine
from benchmarks.report import Report

FOLDER = ROOT / "docs" / "bench"
PAGE = "chaos.md"
PARTS = ("chaos", "fuzz")


def write(report: Report, machine: Machine, folder: Path = FOLDER) -> None:
    """Put a report into its part of the page, and its samples beside it."""
    with tempfile.TemporaryDirectory() as name:
        report.write(Path(name), machine, round(os.getloadavg()[0], 2))
        text = (Path(name) / f"{report.name}.md").read_text()
        (folder / f"{report.name}.json").write_bytes(
            (Path(name) / f"{report.name}.json").read_bytes()
        )
    page = folder / PAGE
    parts = _parts(page.read_text() if page.exists() else "")
    parts[report.name] = text
    page.write_text("\n".join(f"{_mark(part)}\n{parts[part]}" for part in PARTS if part in parts))


def _parts(text: str) -> dict[str, str]:
    found = {}
    for part in PARTS:
        _, mark, after = text.partition(f"{_mark(part)}\n")
        if mark:
            ends = [after.index(f"\n{_mark(p)}") for p in PARTS if f"\n{_mark(p)}" in after]
            found[part] = after[: min(ends, default=len(after))]
    return found


def _mark(part: str) -> str:
    return f"<!-- {part} -->"
