"""Start and stop what is measured: a Finstage of its own, and the peers."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.client import Connection
from benchmarks.machine import ROOT
from benchmarks.processes import Tree
from infra.settings import Settings
from serve.state import read_state

_READY_WITHIN_S = 120.0
_WHOLE_WITHIN_S = 120.0
_POLL_S = 0.02
_SETTLES_S = 5.0  # HAProxy reloads once or twice after the first answer and cuts connections


class Target(Protocol):
    """A Finstage that runs."""

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""

    @property
    def settings(self) -> Settings:
        """What it was started with."""


@dataclass(frozen=True, slots=True)
class Started:
    """A Finstage that was started here.

    `took_s`: until prices and indicators were answered; `whole_s`: until every actor answered.
    """

    url: str
    settings: Settings
    tree: Tree
    took_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: rounds, seconds of load in each, requests in each."""

    rounds: int
    seconds: float
    requests: int


FULL = Size(rounds=5, seconds=5, requests=300)
TINY = Size(rounds=1, seconds=1, requests=5)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a benchmark runs with; `given` is a service that runs already (tiny sizes)."""

    size: Size
    tell: Callable[[str], None]
    given: Target | None = None

    @contextmanager
    def service(self, **environ: str) -> Iterator[Target]:
        """Give the service to measure, started here with `environ` unless it was given."""
        if self.given is not None:
            yield self.given
            return
        self.tell("starting Finstage")
        with finstage(**environ) as started:
            time.sleep(_SETTLES_S)  # of which nobody tells when it is over
            yield started


def plain_environment() -> dict[str, str]:
    """Return the environment as a user has it: nothing of Finstage, Ray or test runners."""
    left_out = ("FINSTAGE_", "RAY_", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    return {name: v for name, v in os.environ.items() if not name.startswith(left_out)}


@contextmanager
def finstage(**environ: str) -> Iterator[Started]:
    """Start a Finstage with the defaults and `environ`, and stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="finstage-bench-"))
    port = free_port()
    settings = own_settings(folder / "data", port)
    environment = plain_environment() | {
        "FINSTAGE_DATA_DIR": str(settings.data_dir),
        "FINSTAGE_PORT": str(port),
        **environ,
    }
    program = str(Path(sys.executable).with_name("finstage"))
    url = f"http://127.0.0.1:{port}"
    try:
        with launched([program, "up"], f"{url}/health/ready", environment, folder) as (tree, took):
            whole_s = took + _until_whole(settings)
            tree.look()
            try:
                yield Started(url, settings, tree, took, whole_s)
            finally:
                subprocess.run(
                    [program, "down"], env=environment, cwd=folder, capture_output=True, check=True
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _until_whole(settings: Settings) -> float:
    """Wait until every actor answers, not only those of prices; return the seconds that took."""
    began_s = time.monotonic()
    while (state := read_state(settings)) is None or not state.ready:
        if time.monotonic() - began_s > _WHOLE_WITHIN_S:
            raise RuntimeError("the actors beside prices and indicators do not come")
        time.sleep(0.05)
    return time.monotonic() - began_s


@contextmanager
def launched(
    command: Sequence[str], ready_url: str, environment: Mapping[str, str], folder: Path
) -> Iterator[tuple[Tree, float]]:
    """Run a command; give its processes and the seconds until `ready_url` said 200.

    At the end whatever of it still runs is ended.
    """
    log = folder / "output.log"
    started_s = time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    tree = Tree(child.pid)
    try:
        if not await_answer(ready_url, lambda: child.poll() is None):
            raise RuntimeError(f"{command[0]} is not ready: {log.read_text()[-2000:]}")
        took_s = time.monotonic() - started_s
        tree.look()
        yield tree, took_s
    finally:
        tree.end()
        child.wait()


def await_answer(url: str, goes_on: Callable[[], bool] = lambda: True) -> bool:
    """Wait until a GET of `url` gives 200; return False if it does not come to that."""
    deadline_s = time.monotonic() + _READY_WITHIN_S
    base, slash, path = url.removeprefix("http://").partition("/")
    while time.monotonic() < deadline_s and goes_on():
        with contextlib.suppress(OSError, RuntimeError), Connection(f"http://{base}") as client:
            client.get(slash + path)
            return True
        time.sleep(_POLL_S)
    return False


@contextmanager
def peer(name: str, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `benchmarks.peers.NAME` until it says READY; its stdin's end is its own."""
    child = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.peers.{name}", *arguments],
        env=plain_environment() | environ,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    tree = Tree(child.pid)
    try:
        while (line := child.stdout.readline()) and line.strip() != b"READY":
            pass
        if not line:
            raise RuntimeError(f"the peer {name} ended with {child.wait()}")
        yield child
    finally:
        tree.look()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=20)
        tree.end()
        child.stdout.close()


def own_settings(data_dir: Path, port: int) -> Settings:
    """Return the defaults, in a folder and on a port of our own."""
    return Settings(_env_file=None, data_dir=data_dir, port=port)  # type: ignore[call-arg]


def free_port() -> int:
    """Return a port that could be bound a moment ago, from where the kernel gives none by itself.

    Ray's own sockets take the kernel's until Serve binds this one, ten seconds later.
    """
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as held:
            held.bind(("127.0.0.1", port))
            return port
