"""`python -m benchmarks [names] [--tiny]`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table as Shown

from benchmarks import (
    analysis,
    batch,
    caches,
    fanout,
    feed,
    frames,
    hot_get,
    jobs,
    live,
    miss,
    operations,
    screen,
    sockets,
    start,
    store,
    store_away,
    tasks,
    upstream,
)
from benchmarks.load import has_wrk
from benchmarks.machine import ROOT, describe_machine
from benchmarks.report import Report
from benchmarks.service import FULL, TINY, Bench, finstage

BENCHMARKS: dict[str, Callable[[Bench], Report]] = {
    module.NAME: module.run
    for module in (
        hot_get,
        miss,
        start,
        batch,
        upstream,
        feed,
        store,
        store_away,
        jobs,
        live,
        screen,
        frames,
        caches,
        analysis,
        fanout,
        sockets,
        tasks,
        operations,
    )
}
RESULTS = ROOT / "docs" / "bench"
_console = Console(highlight=False)


def main() -> int:
    """Run the benchmarks named, or all; return 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--tiny", action="store_true", help="only show that the code runs")
    arguments = parser.parse_args()
    names = arguments.names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if not has_wrk():
        parser.error("wrk is missing: apt install wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    if arguments.tiny:
        return _run_tiny(names)
    return max([_run(name) for name in names])


def _run(name: str) -> int:
    machine = describe_machine()
    with _console.status(name) as status:
        report = BENCHMARKS[name](Bench(FULL, lambda text: status.update(f"{name}: {text}")))
    RESULTS.mkdir(parents=True, exist_ok=True)
    report.write(RESULTS, machine, round(os.getloadavg()[0], 2))
    _show(report)
    return 0 if all(claim.holds for claim in report.claims) else 1


def _run_tiny(names: list[str]) -> int:
    with _console.status("starting Finstage") as status, finstage() as service:
        for name in names:
            # mypy infers no type for a lambda with a default, which binds this round's name
            bench = Bench(TINY, lambda text, n=name: status.update(f"{n}: {text}"), service)  # type: ignore[misc]
            BENCHMARKS[name](bench)
            _console.print(f"{name} runs")
    return 0


def _show(report: Report) -> None:
    shown = Shown("claim", "measured", "holds", title=report.title, title_justify="left")
    for claim in report.claims:
        shown.add_row(claim.text, claim.measured, "yes" if claim.holds else "[red]no[/red]")
    _console.print(shown)


if __name__ == "__main__":
    sys.exit(main())
