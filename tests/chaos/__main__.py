"""`make chaos`: what is lost when processes of the service are killed at random moments.

It starts a service of its own with the defaults, uses it as its clients do (streams, pollers, task
submitters, alert rules, a job), and kills one of its processes after the other: actors, replicas,
Ray's workers, Serve's controller, HAProxyManager, haproxy. Then it counts. The seed is printed;
the same one draws the same kinds again, as far as the same processes run.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks.report import Claim, Report, Table
from tests.chaos import clients
from tests.chaos import trial as trials
from tests.chaos.checks import Kept, kept, ready_again
from tests.chaos.clients import Answers, Promises, asking
from tests.chaos.kills import Kill, kill_one, longest, outages
from tests.chaos.streams import Sequence as Offsets
from tests.chaos.streams import StreamLog, Verdict, judged
from tests.chaos.trial import Trial
from tests.service import Service

SYMBOLS = ("AAPL", "GOOGL", "IBM", "META", "MSFT", "^GSPC", "^IXIC")
STREAMS, POLLERS, SUBMITTERS, CHANGERS = 20, 6, 3, 3
_PAUSES_S = (2.0, 12.0)  # between two kills

_METHOD = f"""`finstage up` with the defaults, one replica of each kind. {STREAMS} StreamClients
take prices, of all symbols or of some, every tick or the newest; {POLLERS} clients ask routes
of all kinds, one asks for a price ten times a second; {SUBMITTERS} submit tasks under a key
each until they are accepted, which leave a line in a file when they begin and when they end;
{CHANGERS} make, switch and delete alert rules, one pauses and resumes a job. After each pause
of {_PAUSES_S[0]:g} to {_PAUSES_S[1]:g} s one process of a kind drawn at random is killed with
`kill -9`: never the raylet, the GCS, Ray's agents, or `finstage up` itself. When the time is
over what was acknowledged is looked for. A message is missed if another client of the same
symbols had it, between the first and the last one of a stretch without a gap that was told. The
time without an answer is the longest pause between two answers of the probe, around a kill: of
kills that no other one was near, and of those that were."""


@dataclass(slots=True)
class Found:
    """Everything that was counted."""

    seed: int
    kills: list[Kill] = field(default_factory=list)
    promises: Promises = field(default_factory=Promises)
    answers: Answers = field(default_factory=lambda: Answers(time.monotonic))
    refused: list[str] = field(default_factory=list)  # clients that gave up
    news_s: list[float] = field(default_factory=list)
    ended_s: float = 0.0
    ready_after_s: float | None = None
    verdict: Verdict | None = None
    kept: Kept | None = None
    has_ended: bool = False


async def run(
    service: Service, seed: int, minutes: float, folder: Path, console: Console
) -> Found:
    """Use and kill for so long, then look for what was promised."""
    found = Found(seed)
    draws = random.Random(seed)
    logs = [_log(number) for number in range(STREAMS)]
    sequence: Offsets = {}
    async with asking(service.url) as http:
        users = [clients.follow(service.url, log, sequence, found.news_s) for log in logs]
        users += [clients.probe(http, found.answers)]
        users += [clients.poll(http, SYMBOLS, seed + n, found.answers) for n in range(POLLERS)]
        users += [
            clients.submit(http, n, folder, found.promises, found.answers)
            for n in range(SUBMITTERS)
        ]
        users += [
            clients.change_rules(http, seed + n, found.promises, found.answers)
            for n in range(CHANGERS)
        ]
        users += [clients.pause_job(http, found.promises, found.answers)]
        running = [asyncio.create_task(user) for user in users]
        await asyncio.sleep(3.0)
        await _kill(service, draws, minutes, found, console)
        found.ready_after_s = await ready_again(http)
        await asyncio.sleep(5.0)  # for streams to come back, and be compared
        found.ended_s = time.monotonic()
        found.refused = await clients.ended(running)
        found.has_ended = service.process.poll() is not None
        found.verdict = judged(logs, sequence)
        if not found.has_ended and found.ready_after_s is not None:
            found.kept = await kept(http, found.promises, folder)
    return found


def _log(number: int) -> StreamLog:
    """Return one of the clients: most take every tick, of all symbols or of two."""
    two = frozenset(SYMBOLS[n % len(SYMBOLS)] for n in (number, number + 1))
    return StreamLog(frozenset(SYMBOLS) if number % 3 == 0 else two, is_whole=number % 5 != 4)


async def _kill(
    service: Service, draws: random.Random, minutes: float, found: Found, console: Console
) -> None:
    until_s = time.monotonic() + 60 * minutes
    while time.monotonic() < until_s and service.process.poll() is None:
        await asyncio.sleep(draws.uniform(*_PAUSES_S))
        pid = service.process.pid
        kill = await asyncio.to_thread(kill_one, pid, draws, time.monotonic())
        if kill is not None:
            found.kills.append(kill)
            left_s = max(0.0, until_s - time.monotonic())
            console.print(f"killed {kill.kind} {kill.pid}, {left_s:.0f} s left")


def report(found: Found, minutes: float) -> Report:
    """Return the page's part."""
    kept_, verdict, promises = found.kept or Kept(), found.verdict, found.promises
    assert verdict is not None
    looked = found.kept is not None
    ended = ", ".join(f"{count:,} {status}" for status, count in sorted(kept_.ended.items()))
    claims = [
        Claim("the service goes on, and is ready again after the last kill",
              "it ended" if found.has_ended
              else "not ready again" if found.ready_after_s is None
              else f"ready {found.ready_after_s:.1f} s after it",
              not found.has_ended and found.ready_after_s is not None),
        Claim("no accepted task is lost",
              f"{len(promises.tasks):,} accepted: {ended or 'not looked at'}; "
              f"{len(kept_.lost_tasks)} lost", looked and not kept_.lost_tasks),
        Claim("a key makes one task",
              f"{len(kept_.split_keys)} keys with two", not kept_.split_keys),
        Claim("no acknowledged change of a rule or a job is lost",
              f"{promises.changes:,} acknowledged, {len(kept_.lost_changes)} lost",
              looked and not kept_.lost_changes),
        Claim("streams: no gap that was not told",
              f"{verdict.messages:,} messages in {verdict.stretches:,} stretches, "
              f"{verdict.missed:,} missed, {verdict.untold_epochs} epochs that began unsaid",
              not verdict.missed and not verdict.untold_epochs),
        Claim("streams: nothing twice, all in order",
              f"{verdict.doubled:,} twice, {verdict.out_of_order:,} out of order",
              not verdict.doubled and not verdict.out_of_order),
        Claim("no client is refused for good", "; ".join(found.refused) or "none",
              not found.refused),
    ]  # fmt: skip
    tables = [
        Table("Killed", ("what", "times", "longest without an HTTP answer, s",
                         "with other kills near, s", "longest without a price in any stream, s"),
              _by_kind(found)),
        Table("Answers of HTTP", ("answer", "count"),
              [(name, f"{n:,}") for name, n in sorted(found.answers.counts.items())]),
        Table("Tasks by what they left behind", ("", "count"), [
            ("accepted", f"{len(promises.tasks):,}"),
            ("ended", f"{sum(kept_.ended.values()):,}"),
            ("begun again, as what they ran on was killed", f"{kept_.begun_again:,}"),
            ("ended more than once, which at least once allows", f"{kept_.ended_again:,}"),
        ]),
    ]  # fmt: skip
    samples = {
        "seed": found.seed,
        "minutes": minutes,
        "kills": [(kill.kind, round(kill.at_s, 3)) for kill in found.kills],
        "answers": dict(found.answers.counts),
        "lost_tasks": kept_.lost_tasks,
        "lost_changes": kept_.lost_changes,
        "split_keys": kept_.split_keys,
        "stream_examples": verdict.examples,
    }
    title = f"Chaos of {minutes:g} minutes: {len(found.kills)} kills, seed {found.seed}"
    return Report("chaos", title, _METHOD, claims, tables, samples)


def _by_kind(found: Found) -> list[tuple[str, str, str, str, str]]:
    answered = outages(found.kills, found.answers.good_s, found.ended_s)
    streamed = outages(found.kills, found.news_s, found.ended_s)
    rows = []
    for kind, times in sorted(Counter(kill.kind for kill in found.kills).items()):
        alone, together = longest(answered, kind)
        prices = max(longest(streamed, kind))
        rows.append((kind, str(times), f"{alone:.1f}" if alone else "–",
                     f"{together:.1f}" if together else "–", f"{prices:.1f}"))  # fmt: skip
    return rows


async def tried(trial: Trial) -> Report:
    """Kill, count, report."""
    marks = trial.folder / "marks"
    marks.mkdir()
    found = await run(trial.service, trial.seed, trial.minutes, marks, trial.console)
    made = report(found, trial.minutes)
    for what in ("lost_tasks", "lost_changes", "split_keys", "stream_examples"):
        for line in made.samples[what]:
            trial.console.print(f"{what}: {line}")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return 1 if something acknowledged was lost or a gap was not told."""
    return trials.run("chaos", __doc__, tried, arguments)


if __name__ == "__main__":
    sys.exit(main())
