"""`finstage status`."""

from __future__ import annotations

import httpx
from rich.console import Console
from rich.table import Table

from infra.settings import Settings
from serve.processes import alive, named
from serve.state import read_state
from serve.up import overview

NOTHING_RUNS = 3


def show_status(settings: Settings, console: Console) -> int:
    """Print what runs where and how it does; return 0 ready, 1 not ready, 3 nothing runs."""
    state = read_state(settings)
    if state is None or not state.runs:
        console.print(f"nothing runs on {settings.data_dir}; `finstage up` starts it")
        return NOTHING_RUNS
    console.print(overview(settings, state))
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
    processes = alive(state.processes)
    resident = sum(process.memory_info().rss for process in processes)
    haproxies = len(named(processes, "haproxy"))
    console.print(
        f"{len(processes)} processes, {haproxies} of them haproxy; "
        f"{resident / 2**20:,.0f} MB resident, shared pages counted in each"
    )
    return 0 if answer.status_code == 200 else 1
