"""Load by wrk (https://github.com/wg/wrk; Debian's package `wrk`): one thread, so one core."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import orjson

CONNECTIONS = 32
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """One run: what came back, how fast."""

    requests: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_s(self) -> float:
        """Return the requests answered in a second."""
        return self.requests / self.seconds


def has_wrk() -> bool:
    """Return whether wrk is installed."""
    return shutil.which("wrk") is not None


def press(url: str, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Ask for `url` as fast as it is answered; raises RuntimeError if an answer was an error."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    done = subprocess.run(
        [*command, "-s", str(_SCRIPT), url], capture_output=True, text=True, check=True
    )
    line = next(text for text in done.stdout.splitlines() if text.startswith("JSON "))
    load = Load(**orjson.loads(line.removeprefix("JSON ")))
    if load.failed or not load.requests:
        raise RuntimeError(f"{load.failed} of {load.requests} requests to {url} failed")
    return load
