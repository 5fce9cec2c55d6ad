"""A Finstage of a test's own: started by the command line, on free ports, in its own folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from infra.settings import Settings
from serve.processes import alive
from serve.state import State, read_state
from tests.fakes.yahoo import FakeYahoo
from tests.settings import made_settings

START_WITHIN_S = 120.0


@dataclass(slots=True)
class Service:
    """One running Finstage."""

    process: subprocess.Popen[bytes]
    settings: Settings
    state: State
    log: Path
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.state.url

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def left_over(self) -> list[psutil.Process]:
        """Return the processes of it that still run."""
        return alive(self.state.processes)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data_dir: Path, **settings: object) -> dict[str, str]:
    """Return the variables of a Finstage of its own."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("FINSTAGE_", "RAY_"))}
    given = {
        "port": free_port(),
        "ray_dashboard_port": free_port(),
        "data_dir": data_dir,
        "task_modules": "tests.fakes.tasks",
    }
    own["PYTHONPATH"] = f"{Path(__file__).parents[1]}:{data_dir}"  # where those are, and others
    return own | {f"FINSTAGE_{k.upper()}": str(v) for k, v in (given | settings).items()}


def run_finstage(
    *arguments: str, env: dict[str, str], timeout_s: float = 150.0
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "finstage", *arguments]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def settings_of(env: dict[str, str]) -> Settings:
    """Return the settings that a process with this environment would have."""
    prefix = "FINSTAGE_"
    values = {k.removeprefix(prefix).lower(): v for k, v in env.items() if k.startswith(prefix)}
    return made_settings(**values)


def start(env: dict[str, str], *arguments: str) -> Service:
    """Start a Finstage in the foreground of a process, and wait until it is ready."""
    settings = settings_of(env)
    log = settings.data_dir / "test-output.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "finstage", "up", *arguments],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline_s = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline_s:
        state = read_state(settings)
        if state is not None and state.ready and state.pid == process.pid:
            return Service(process, settings, state, log, env)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    raise AssertionError(f"did not start:\n{log.read_text(errors='replace')}")


def stop(service: Service, how: int = signal.SIGTERM) -> float:
    """Stop it and return how many seconds that took; nothing of it may be left."""
    state = read_state(service.settings)
    service.state = state or service.state
    started_s = time.monotonic()
    if service.process.poll() is None:
        service.process.send_signal(how)
    service.process.wait(timeout=5 * service.settings.stop_s)
    took_s = time.monotonic() - started_s
    left = service.left_over()
    assert not left, f"left over: {[' '.join(p.cmdline())[:80] for p in left]}"
    return took_s


@contextmanager
def running(data_dir: Path, **settings: object) -> Iterator[Service]:
    """Start a Finstage, and stop it at the end of the block."""
    service = start(environment(data_dir, **settings))
    try:
        yield service
    finally:
        stop(service)


@contextmanager
def running_on(fake: FakeYahoo, data_dir: Path, **settings: object) -> Iterator[Service]:
    """Start a Finstage whose Yahoo is a fake."""
    urls = {"yahoo_url": fake.url, "yahoo_stream_url": fake.stream_url}
    with running(data_dir, source="yahoo", **urls, **settings) as service:
        yield service


def wait_until(
    holds: Callable[[], object], within_s: float, what: str, every_s: float = 0.05
) -> float:
    """Wait until `holds()` is true; print and return the seconds. Failures of HTTP are waited for.

    The wait is up to five times `within_s`: a slow machine decides no test, the figure tells.
    """
    started_s = time.monotonic()
    while time.monotonic() - started_s < 5 * within_s:
        try:
            if holds():
                took_s = time.monotonic() - started_s
                sys.stdout.write(f"{what}: {took_s:.2f} s (aim {within_s:g} s)\n")
                return took_s
        except httpx.HTTPError:
            pass
        time.sleep(every_s)
    raise AssertionError(f"{what}: not within {5 * within_s:g} s")
