"""From the command to the first answer, and the memory then, beside an empty Serve application."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.processes import Held, Tree
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench, finstage, launched, own_settings, plain_environment
from benchmarks.stats import Summary, ratio, ratio_interval

NAME = "start"
TIMES_START = 1.6
TIMES_MEMORY = 2.5
_ROUNDS = 3
_IDLE_S = 10.0
_SERVE_PORT = 8000  # `serve run` has no option for it

_METHOD = f"""`finstage up` until `/health/ready` says 200 (prices, indicators and streams are
answered) and until every other actor answers too (jobs, tasks, alerts, monitor), and `serve run`
of an empty FastAPI application until its route says 200, in turn, each with bytecode written by
a start before that is dropped. Both have Ray's dashboard and the same `RAY_SERVE_*`, the token
included; only the hook with our middleware is left out of the peer, which would import our code.
Memory is the sum of the proportional set sizes (`/proc/*/smaps_rollup`) of the whole process
tree, {_IDLE_S:g} s after the first answer, nobody asking anything."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: how long it took, wholly and to the first answers, and what processes held."""

    took_s: float
    whole_s: float
    held: list[Held]

    @property
    def total_mb(self) -> float:
        """Return the memory of all its processes."""
        return sum(one.pss_mb for one in self.held)


def run(bench: Bench) -> Report:
    """Start both in turn; in tiny sizes only look at the service that was given."""
    if bench.given is not None:
        return report([_look_at(bench)], [])
    ours: list[Start] = []
    theirs: list[Start] = []
    for number in range(_ROUNDS + 1):
        what = f"start {number} of {_ROUNDS}" if number else "start that is dropped"
        bench.tell(f"{what}: finstage up")
        with finstage() as started:
            ours.append(_idle(started.took_s, started.whole_s, started.tree, number))
        bench.tell(f"{what}: serve run")
        with _serve_run() as (tree, took_s):
            theirs.append(_idle(took_s, took_s, tree, number))
    return report(ours[1:], theirs[1:])


def _look_at(bench: Bench) -> Start:
    from serve.state import read_state

    assert bench.given is not None
    state = read_state(bench.given.settings)
    if state is None:
        raise RuntimeError("nothing runs there")
    return Start(0.0, 0.0, Tree(state.pid).memory())


def _idle(took_s: float, whole_s: float, tree: Tree, number: int) -> Start:
    if number:
        time.sleep(_IDLE_S)  # memory is that of a service which has come to rest
    return Start(took_s, whole_s, tree.memory())


@contextmanager
def _serve_run() -> Iterator[tuple[Tree, float]]:
    folder = Path(tempfile.mkdtemp(prefix="finstage-bench-"))
    program = str(Path(sys.executable).with_name("serve"))
    arguments = ["--address", "local", "benchmarks.peers.empty_app:app"]
    url = f"http://127.0.0.1:{_SERVE_PORT}/ready"
    environment = plain_environment() | _ingress(folder) | {"PYTHONPATH": str(ROOT)}
    try:
        with launched([program, "run", *arguments], url, environment, folder) as (tree, took_s):
            yield tree, took_s
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ingress(folder: Path) -> dict[str, str]:
    from serve.cli.head import ingress_environment, token_path
    from serve.cli.ports import choose_ports

    settings = own_settings(folder, _SERVE_PORT)
    path = token_path(settings)
    path.parent.mkdir(parents=True)
    path.write_text("0" * 64)
    environment = ingress_environment(settings, choose_ports(settings))
    return {k: v for k, v in environment.items() if not k.endswith("CALLBACK_IMPORT_PATH")}


def report(ours: list[Start], theirs: list[Start]) -> Report:
    """Return tables and claims; without a peer there is nothing to claim."""
    result = Report(NAME, "Start and memory", _METHOD)
    if theirs:
        seconds = [s.took_s for s in ours], [s.took_s for s in theirs]
        whole = [s.whole_s for s in ours], [s.whole_s for s in theirs]
        sizes = [s.total_mb for s in ours], [s.total_mb for s in theirs]
        what = "`serve run` of an empty application"
        result.claims = [
            _claim(f"ready in at most {TIMES_START:g} × {what}", *seconds, TIMES_START),
            _claim(f"memory at most {TIMES_MEMORY:g} × of that", *sizes, TIMES_MEMORY),
        ]
        measured = {
            "seconds to ready": seconds,
            "seconds to everything": whole,
            "MB, all processes": sizes,
        }
        rows = [
            (name, Summary.of(a).shown(1), Summary.of(b).shown(1))
            for name, (a, b) in measured.items()
        ]
        result.tables.append(Table("Both", ("", "finstage up", "serve run"), rows))
    result.tables.append(_memory_table(ours, theirs))
    result.samples = {"finstage": [asdict(s) for s in ours], "serve": [asdict(s) for s in theirs]}
    return result


def _claim(text: str, ours: list[float], theirs: list[float], most: float) -> Claim:
    times, (low, high) = ratio(ours, theirs), ratio_interval(ours, theirs)
    return Claim(text, f"{times:.2f} × ({low:.2f} to {high:.2f})", times <= most)


def _memory_table(ours: list[Start], theirs: list[Start]) -> Table:
    left, right = _by_role(ours), _by_role(theirs)
    roles = sorted(left | right, key=lambda role: -max(left.get(role, 0), right.get(role, 0)))
    rows = [(role, _cell(left.get(role)), _cell(right.get(role))) for role in roles]
    header = ("process", "finstage up", "serve run")
    return Table("Proportional set size by process, MB, median of the starts", header, rows)


def _cell(size_mb: float | None) -> str:
    return "" if size_mb is None else f"{size_mb:.1f}"


def _by_role(starts: list[Start]) -> dict[str, float]:
    sizes: dict[str, list[float]] = defaultdict(list)
    for start in starts:
        sums: dict[str, float] = defaultdict(float)
        for one in start.held:
            sums[one.role] += one.pss_mb
        for role, total in sums.items():
            sizes[role].append(total)
    return {role: Summary.of(found).median for role, found in sizes.items()}
