"""`finstage up --detach` and `finstage down`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from rich.console import Console

from infra.settings import Settings
from serve.processes import alive, end_all
from serve.state import State, forget_state, read_state, take_lock
from serve.up import overview

_START_WITHIN_S = 180.0
_STOP_BEYOND_S = 5.0


def start_detached(settings: Settings, address: str, console: Console) -> int:
    """Start `finstage up` in the background, wait until it is ready; return its exit code if not.

    Its output goes to `up.log` in the data directory.
    """
    take_lock(settings).close()  # says in one line what stands in the way
    log = settings.log_dir / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "finstage", "up"]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command + (["--address", address] if address else []),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with console.status("starting …"):
        state = _await_ready(settings, child)
    if state is None:
        console.print(log.read_text(errors="replace").strip(), markup=False)
        return child.poll() or 1
    console.print(overview(settings, state))
    console.print(f"ready in the background (pid {state.pid}); `finstage down` stops it")
    return 0


def _await_ready(settings: Settings, child: subprocess.Popen[bytes]) -> State | None:
    deadline_s = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < deadline_s and child.poll() is None:
        state = read_state(settings)
        if state is not None and state.pid == child.pid and state.ready:
            return state
        time.sleep(0.1)
    return None


def stop_running(settings: Settings, console: Console) -> int:
    """Stop the service of this data directory; return 0, also if nothing ran."""
    state = read_state(settings)
    if state is None:
        console.print(f"nothing runs on {settings.data_dir}")
        return 0
    if state.runs:
        os.kill(state.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + settings.stop_s + _STOP_BEYOND_S
        while state.runs and time.monotonic() < deadline_s:
            time.sleep(0.1)
    if state.runs:
        console.print(f"pid {state.pid} did not stop in time and is ended by force")
    left = alive(state.processes | {state.pid: state.created_s})
    if left:
        end_all({p.pid: p.create_time() for p in left}, patience_s=1)
        console.print(f"ended {len(left)} processes that were left")
    forget_state(settings)
    console.print("stopped")
    return 0
