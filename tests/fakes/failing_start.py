"""`finstage` with a start whose stages begin no Ray but one process each, and fail as told.

`python -m tests.fakes.failing_start STAGE HOW finstage-arguments…`. HOW: `raises`, `ends` (the
process is killed there), `waits` (for ever), `hangs` (the same, and the start has 2 s in all) or
`refuses` (a ConfigError). The process of a stage is an orphan at once, as an HAProxy whose manager
died is; its pid is a line of `orphans` in the data directory.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from infra.errors import ConfigError
from serve.cli import main as cli
from serve.cli import up
from serve.cli.start_watch import StartWatch

STAGES = ("prepare_environment", "start_head", "join_ray", "deploy", "await_ready", "deploy_rest")


class FakeNode:
    """Ray's node, as far as a start and its end ask it."""

    address = "127.0.0.1:1"

    def __init__(self) -> None:
        self.all_processes: dict[str, Any] = {}

    def get_session_dir_path(self) -> str:
        """Return no folder."""
        return ""

    def kill_all_processes(self, **_: object) -> None:
        """End nothing: what runs must be found without Ray."""


def orphan() -> None:
    """Start a process whose parent ends."""
    file = Path(os.environ["FINSTAGE_DATA_DIR"]) / "orphans"
    command = f"sleep 600 >/dev/null 2>&1 & echo $! >> {file}"
    subprocess.run(["sh", "-c", command], check=True)


def fail(how: str) -> NoReturn:
    """Do what happens to the start in its stage."""
    if how == "raises":
        raise RuntimeError("the actor died\n\tclass_name: HAProxyManager\n\tactor_id: 1")
    if how == "refuses":
        raise ConfigError("it cannot be so")
    if how == "ends":
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()
    raise AssertionError


def main() -> None:
    """Run the command line with these stages."""
    failing, how, sys.argv[1:] = sys.argv[1], sys.argv[2], sys.argv[3:]

    def stage(name: str, *_: object) -> Any:
        orphan()
        if name == failing:
            fail(how)
        return FakeNode() if name == "start_head" else (lambda: None)

    for name in STAGES:
        setattr(up, name, functools.partial(stage, name))
    if how == "hangs":
        hasty = functools.partial(StartWatch, within_s=2.0, say_every_s=1.0)
        setattr(up, "StartWatch", hasty)  # noqa: B010
    up.import_ahead = up._leave_ray = lambda: None
    cli.run()


if __name__ == "__main__":
    main()
