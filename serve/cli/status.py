"""`finstage status`."""

from __future__ import annotations

import httpx
from rich.console import Console
from rich.table import Table

from infra.settings import Settings
from serve.cli.up import overview
from serve.processes import alive, named, proportional_bytes
from serve.state import State, living, lock_holder, read_state

NOTHING_RUNS = 3


def show_status(settings: Settings, console: Console) -> int:
    """Print what runs where and how it does; return 0 ready, 1 not ready, 3 nothing runs."""
    state = read_state(settings)
    if state is None or not state.runs:
        return _show_remains(settings, console, state)
    console.print(overview(settings, state))
    if not state.ready:
        console.print(f"pid {state.pid} starts it: {state.stage or 'starting'} …")
        return 1
    try:
        answer = httpx.get(f"{state.url}/health/ready", timeout=10, trust_env=False)
        checks = answer.json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        console.print(f"[red]no answer at {state.url}: {type(error).__name__}[/red]")
        return 1
    table = Table("part", "state", "detail", title="Parts", title_justify="left")
    for name, check in checks.items():
        colour = "green" if check["status"] == "ok" else "yellow"
        table.add_row(name, f"[{colour}]{check['status']}[/{colour}]", check["detail"])
    console.print(table)
    processes = alive(living(settings, state))
    haproxies = len(named(processes, "haproxy"))
    console.print(
        f"{len(processes)} processes, {haproxies} of them haproxy; "
        f"{proportional_bytes(processes) / 2**20:,.0f} MB, shared pages counted once (PSS)"
    )
    return 0 if answer.status_code == 200 else 1


def _show_remains(settings: Settings, console: Console, state: State | None) -> int:
    """Say what lives without its `finstage up`, or before that has written what it starts."""
    for pid in lock_holder(settings):
        console.print(f"pid {pid} begins to start it on {settings.data_dir}")
        return 1
    left = alive(living(settings, state))
    if not left:
        console.print(f"nothing runs on {settings.data_dir}; `finstage up` starts it")
        return NOTHING_RUNS
    pids = ", ".join(str(process.pid) for process in left)
    console.print(
        f"the `finstage up` on {settings.data_dir} has ended, but {len(left)} processes that it "
        f"started live ({pids}): `finstage down` ends them, so does the next `finstage up`",
        soft_wrap=True,
    )
    return 1
