"""`make fuzz`: what breaks when a service is sent what makes no sense.

It starts a service of its own and sends, from a seed that it prints: every route of the OpenAPI
document with odd parameters, bodies, headers and path spellings; questions for server-sent
events; WebSocket frames; and it reads odd files as `finstage import` does. Nothing may be
answered with a 5xx that is not documented, nothing may leave a traceback or end a process, every
connection's place is given back, and memory stays bounded. Each kind of fault is told once, as
small as it gets.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import httpx
from rich.console import Console

from benchmarks.processes import Tree
from benchmarks.report import Claim, Report, Table
from tests.chaos import trial as trials
from tests.chaos.kills import KINDS, victims
from tests.chaos.trial import Trial
from tests.fuzz import files, frames, http
from tests.fuzz.findings import Finding, Findings, LogWatch
from tests.fuzz.http import Answer, Request, Routes, sent
from tests.service import Service

_REQUESTERS, _STREAMERS, _TALKERS, _READERS = 4, 1, 2, 1
_AT_ONCE, _TOGETHER = 8, 0.05  # so many of one request, of so large a part of them
_MOST_MB = 600  # of growth: near caches, the hub's log, live indicators and tasks fill up
_PLACES_WITHIN_S = 60.0
_TRIES = 40  # to make a request smaller
_PASSING = {"a task's process", "an idle worker of Ray", "a job's process"}

_METHOD = f"""`finstage up` with the defaults. {_REQUESTERS} clients send requests of a route
drawn at random, byte by byte, one thing in each odd: a parameter, a part of the body, a header,
the path's spelling, or a parameter more; a seventh goes to the stream's routes and to pages.
{_TOGETHER:.0%} are sent {_AT_ONCE} times at once. Paths name ids that answers gave, so what is
drawn depends on them too. {_STREAMERS} asks for server-sent events, {_TALKERS} say frames on
sockets, and {_READERS} reads files as `finstage import` does, in a process of its own. What is
counted as a fault: an answer of 5xx that the route does not document, or none; a socket that
ends with 1006 or 1011, or stays silent; a line in the service's logs with a traceback; an
actor, a replica or HAProxy that is another process; a connection whose place is not given back
in {_PLACES_WITHIN_S:g} s; memory of actors, replicas and ingress together more than {_MOST_MB}
MB over what it was; a file that ends the reader, is neither read nor refused, or takes more
than {files.MOST_MB} MB."""


class Fuzz:
    """One run against one service."""

    def __init__(self, service: Service, seed: int, folder: Path, console: Console) -> None:
        self._service, self._url, self._seed = service, service.url, seed
        self._folder, self._console = folder, console
        self._numbers = itertools.count(1)
        self.found = Findings()
        self.left_open = 0
        self.before_mb: dict[str, float] = {}
        self.after_mb: dict[str, float] = {}

    async def run(self, minutes: float) -> None:
        """Send for so long, then look whether all is as it was."""
        async with httpx.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as client:
            routes = Routes((await client.get("/openapi.json")).json())
            watch = LogWatch(self._service.settings.log_dir)
            processes, self.before_mb = self._processes(), self._memory_mb()
            self._until_s = time.monotonic() + 60 * minutes
            await asyncio.gather(
                *(self._request(routes, n) for n in range(_REQUESTERS)),
                *(self._stream(n) for n in range(_STREAMERS)),
                *(self._talk(n) for n in range(_TALKERS)),
                *(self._read(n) for n in range(_READERS)),
                self._look(watch, processes),
            )
            self.left_open = await self._places(client)
            self._look_once(watch, processes)
            self.after_mb = self._memory_mb()

    def _draws(self, name: str, number: int) -> random.Random:
        return random.Random(f"{self._seed}-{name}-{number}")

    def _goes_on(self) -> bool:
        return time.monotonic() < self._until_s and self._service.process.poll() is None

    async def _request(self, routes: Routes, number: int) -> None:
        draws = self._draws("request", number)
        while self._goes_on():
            request = http.beside(draws) if draws.random() < 1 / 7 else routes.request(draws)
            copies = _AT_ONCE if draws.random() < _TOGETHER else 1
            sending = [self._sent("request", request, copies) for _ in range(copies)]
            for answer in await asyncio.gather(*sending):
                routes.learn(answer)

    async def _stream(self, number: int) -> None:
        draws = self._draws("events", number)
        while self._goes_on():
            await self._sent("question for events", http.events(draws))

    async def _sent(self, kind: str, request: Request, copies: int = 1) -> Answer:
        request_id = f"fuzz-{next(self._numbers)}"
        self.found.remember(request_id, request.curl(self._url))
        answer = await sent(self._url, request, request_id)
        self.found.tried[kind] += 1
        self.found.answers[answer.named] += 1
        key = f"{request.method} {answer.status} {_shape(request.path)}"
        if _is_wrong(request, answer) and self.found.is_new(key):
            what = f"{answer.status}: {answer.text[:200]} ({request_id})"
            if copies == 1:
                again = await self._smallest(request, answer)
            else:
                again = f"{copies} at once: {request.curl(self._url)}"
            self._add(key, Finding("answer", what, again))
        return answer

    async def _smallest(self, request: Request, answer: Answer) -> str:
        if not _is_wrong(request, await sent(self._url, request, "fuzz-again")):
            return f"once, and not again by: {request.curl(self._url)}"
        tries = 0
        is_smaller = True
        while is_smaller and tries < _TRIES:
            is_smaller = False
            for smaller in request.smaller():
                tries += 1
                again = await sent(self._url, smaller, "fuzz-again")
                if again.status == answer.status and _is_wrong(smaller, again):
                    request, answer, is_smaller = smaller, again, True
                    break
        return request.curl(self._url)

    async def _talk(self, number: int) -> None:
        draws = self._draws("frames", number)
        while self._goes_on():
            said = [frames.frame(draws) for _ in range(draws.randrange(1, 8))]
            request_id = f"fuzz-{next(self._numbers)}"
            self.found.remember(request_id, frames.shown(said))
            wrong = await frames.said(self._url, said, request_id)
            self.found.tried["frame"] += len(said)
            if wrong and self.found.is_new(key := f"socket {wrong[:60]}"):
                small = await frames.smallest(self._url, said)
                self._add(key, Finding("socket", wrong, frames.shown(small)))

    async def _read(self, number: int) -> None:
        draws, reader = self._draws("files", number), files.Reader()
        try:
            while self._goes_on():
                path = await asyncio.to_thread(files.made, draws, self._folder)
                told = await self._told(reader, path)
                self.found.tried["file"] += 1
                self.found.answers[f"file: {told.split(' ')[0].lstrip('!')}"] += 1
                if told.startswith("!") and self.found.is_new(key := f"file {told[:50]}"):
                    kept = Path(tempfile.gettempdir()) / f"finstage-fuzz-{path.name}"
                    shutil.copy(path, kept)
                    line = f"finstage import {kept} --symbol X --dry-run"
                    self._add(key, Finding("file", told[1:], line))
                path.unlink()
        finally:
            reader.end()

    async def _told(self, reader: files.Reader, path: Path) -> str:
        reading = asyncio.create_task(asyncio.to_thread(reader.read, path))
        done, _ = await asyncio.wait([reading], timeout=files.PATIENCE_S)
        if not done:
            reader.end()
            await reading
            return f"!not read in {files.PATIENCE_S:g} s"
        return reading.result()

    async def _look(self, watch: LogWatch, processes: dict[str, set[int]]) -> None:
        while self._goes_on():
            await asyncio.sleep(2.0)
            self._look_once(watch, processes)

    def _look_once(self, watch: LogWatch, processes: dict[str, set[int]]) -> None:
        for line in watch.tracebacks():
            told = str(line.get("traceback", "")).strip().splitlines()[-1:] or [""]
            key = f"log {line['event']} {told[0][:60]}"
            if self.found.is_new(key):
                again = self.found.sent(str(line.get("request_id", "")))
                what = f"{line['process']}: {line['event']} {told[0][:200]}"
                self._add(key, Finding("log", what, again))
        for kind, pids in self._processes().items():
            if processes.get(kind) and not pids <= processes[kind]:
                processes[kind] |= pids
                if self.found.is_new(key := f"process {kind}"):
                    again = "one of: " + "\n  ".join(self.found.last())
                    self._add(key, Finding("process", f"{kind} is another process", again))

    def _processes(self) -> dict[str, set[int]]:
        there = victims(self._service.process.pid)
        return {k: {p.pid for p in v} for k, v in there.items() if k not in _PASSING}

    def _memory_mb(self) -> dict[str, float]:
        """Return what each part holds, shared pages shared out."""
        found: dict[str, float] = defaultdict(float)
        for held in Tree(self._service.process.pid).memory():
            kind = KINDS.get(held.role, "")
            if kind and kind not in _PASSING:
                found[kind] += held.pss_mb
        return dict(found)

    async def _places(self, client: httpx.AsyncClient) -> int:
        """Return how many connections the service still counts when nobody is connected."""
        deadline_s = time.monotonic() + _PLACES_WITHIN_S
        count = -1
        while count and time.monotonic() < deadline_s:
            answer = await client.get("/ws/status")
            if answer.status_code == 200:
                count = answer.json()["websocket_manager"]["active_connections"]
            await asyncio.sleep(1.0)
        return count

    def _add(self, key: str, finding: Finding) -> None:
        self.found.add(key, finding)
        self._console.print(f"{finding.kind}: {finding.what}\n  {finding.again}")


def _is_wrong(request: Request, answer: Answer) -> bool:
    if answer.status == 0:
        return True
    return answer.status >= 500 and answer.status not in request.allowed


def _shape(path: str) -> str:
    """Return a path without what is drawn, as far as one can tell."""
    return "/".join(
        part if part.isascii() and part.islower() else "…" for part in path.split("/")
    )[:60]


def report(fuzz: Fuzz, seed: int, minutes: float) -> Report:
    """Return the page's part."""
    found = fuzz.found
    before_mb, after_mb = sum(fuzz.before_mb.values()), sum(fuzz.after_mb.values())
    said = {
        "answer": "no 5xx that is not documented, and no request without an answer",
        "log": "no traceback in the logs",
        "process": "no actor, replica or HAProxy is another process",
        "socket": "every socket answers afterwards, or is closed with a reason",
        "file": "every file is read or refused, in bounded memory",
    }
    claims = [
        Claim(text, f"{len(found.of(kind))} kinds of faults", not found.of(kind))
        for kind, text in said.items()
    ]
    claims += [
        Claim("every connection's place is given back", f"{fuzz.left_open} left",
              fuzz.left_open == 0),
        Claim("memory stays bounded", f"{before_mb:.0f} MB before, {after_mb:.0f} MB after",
              after_mb - before_mb <= _MOST_MB),
    ]  # fmt: skip
    tables = [
        Table("Tried", ("what", "count"), [(k, f"{n:,}") for k, n in found.tried.items()]),
        Table("Answered", ("answer", "count"),
              [(k, f"{n:,}") for k, n in sorted(found.answers.items())]),
    ]  # fmt: skip
    tables.append(Table("Memory, MB", ("what", "before", "after"), [
        (kind, f"{fuzz.before_mb.get(kind, 0.0):.0f}", f"{mb:.0f}")
        for kind, mb in sorted(fuzz.after_mb.items())
    ]))  # fmt: skip
    if found.by_key:
        rows = [(f.kind, str(f.count), _cell(f.what), f"`{_cell(f.again)}`")
                for f in found.by_key.values()]  # fmt: skip
        tables.append(Table("Faults", ("kind", "times", "what", "again"), rows))
    samples = {
        "seed": seed,
        "minutes": minutes,
        "tried": dict(found.tried),
        "answers": dict(found.answers),
        "faults": [(f.kind, f.count, f.what, f.again) for f in found.by_key.values()],
    }
    title = f"Fuzz of {minutes:g} minutes, seed {seed}"
    return Report("fuzz", title, _METHOD, claims, tables, samples)


def _cell(text: str) -> str:
    return text[:160].replace("|", "\\|").replace("\n", " ").replace("`", "'")


async def tried(trial: Trial) -> Report:
    """Send, look, report."""
    fuzz = Fuzz(trial.service, trial.seed, trial.folder, trial.console)
    await fuzz.run(trial.minutes)
    return report(fuzz, trial.seed, trial.minutes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return 1 if there is a fault."""
    return trials.run("fuzz", __doc__, tried, arguments)


if __name__ == "__main__":
    sys.exit(main())
