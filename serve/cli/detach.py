"""`finstage up --detach` and `finstage down`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
from rich.console import Console

from infra.settings import Settings
from serve.cli.up import overview
from serve.processes import alive, await_end, end_all
from serve.state import State, forget_state, living, lock_holder, read_state, take_lock

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
    with console.status("starting …") as status:
        state = _await_ready(settings, child, status.update)
    if state is None:
        console.print(log.read_text(errors="replace").strip(), markup=False)
        return child.poll() or 1
    console.print(overview(settings, state))
    console.print(f"ready in the background (pid {state.pid}); `finstage down` stops it")
    return 0


def _await_ready(
    settings: Settings, child: subprocess.Popen[bytes], show: Callable[[str], None]
) -> State | None:
    """Return the state once it is ready, None where it ended, for which it has its own limit."""
    while child.poll() is None:
        state = read_state(settings)
        if state is not None and state.pid == child.pid:
            if state.ready:
                return state
            show(f"{state.stage or 'starting'} …")
        time.sleep(0.1)
    return None


def stop_running(settings: Settings, console: Console) -> int:
    """Stop the service of this data directory; return 0, also if nothing ran.

    So it ends a start under way, and what one that was killed left behind.
    """
    state = read_state(settings)
    started = lock_holder(settings) or ({state.pid: state.created_s} if state is not None else {})
    runs = alive(started)
    for process in runs:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    await_end(started, settings.stop_s + _STOP_BEYOND_S)
    for process in alive(started):
        console.print(f"pid {process.pid} did not stop in time and is ended by force")
    ended = end_all(living(settings, state) | started, patience_s=1)
    if ended:
        console.print(f"ended {ended} processes that were left")
    forget_state(settings)
    console.print("stopped" if runs or ended else f"nothing runs on {settings.data_dir}")
    return 0
