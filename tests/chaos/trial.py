"""A program that tries a service of its own for some minutes: chaos and fuzz."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table as Shown

from benchmarks.machine import describe_machine
from benchmarks.report import Claim, Report
from tests.chaos import page
from tests.service import Service, environment, start, stop


@dataclass(frozen=True, slots=True)
class Trial:
    """What one run was given."""

    service: Service
    seed: int
    minutes: float
    folder: Path  # for files of its own, gone afterwards
    console: Console


def run(
    name: str,
    words: str | None,
    tried: Callable[[Trial], Coroutine[None, None, Report]],
    arguments: Sequence[str] | None,
) -> int:
    """Start a service, try it, stop it, show the report; return 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.{name}", description=words)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--page", action="store_true", help="write docs/bench/chaos.md")
    given = parser.parse_args(arguments)
    seed = random.randrange(10**6) if given.seed is None else given.seed
    console = Console(highlight=False, markup=False, soft_wrap=True)
    again = f"make {name} MINUTES={given.minutes:g} SEED={seed}"
    console.print(f"seed {seed}; the same again: {again}")
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix=f"finstage-{name}-") as temporary:
        folder = Path(temporary)
        service = start(environment(folder / "data"))
        try:
            trial = Trial(service, seed, given.minutes, folder, console)
            report = asyncio.run(tried(trial))
        finally:
            left_over = _stopped(service)
        told = ", ".join(left_over) or "nothing"
        claims = [*report.claims, Claim("a stop leaves nothing behind", told, not left_over)]
        report = replace(report, claims=claims, command=again)
        if not _holds(report):
            _keep_logs(service, report.name, seed, console)
    _show(report)
    if given.page:
        page.write(report, machine)
    return 0 if _holds(report) else 1


def _holds(report: Report) -> bool:
    return all(claim.holds for claim in report.claims)


def _stopped(service: Service) -> list[str]:
    """Stop it; end and return what is left over."""
    try:
        stop(service)
    except AssertionError as error:
        for process in service.left_over():
            with contextlib.suppress(Exception):
                process.kill()
        return [str(error)]
    return []


def _keep_logs(service: Service, name: str, seed: int, console: Console) -> None:
    kept = Path(tempfile.gettempdir()) / f"finstage-{name}-{seed}-logs"
    shutil.copytree(service.settings.log_dir, kept, dirs_exist_ok=True)
    shutil.copy(service.log, kept)
    console.print(f"log lines are kept in {kept}")


def _show(report: Report) -> None:
    """Print what the page says."""
    console = Console(highlight=False, width=140)
    shown = Shown("claim", "measured", "holds", title=report.title, title_justify="left")
    for claim in report.claims:
        shown.add_row(claim.text, claim.measured, "yes" if claim.holds else "[red]no[/red]")
    console.print(shown)
    for table in report.tables:
        body = Shown(*table.header, title=table.title, title_justify="left")
        for row in table.rows:
            body.add_row(*(cell.replace("[", "\\[") for cell in row))
        console.print(body)
