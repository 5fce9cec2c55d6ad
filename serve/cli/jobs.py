"""`finstage jobs`: what the running service's scheduler does."""

from __future__ import annotations

import time
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.settings import Settings
from serve.cli.listing import print_json, print_table
from serve.cli.local_http import Client, asked, service_client

_LOOK_EVERY_S = 0.3


def show_jobs(settings: Settings, console: Console, as_json: bool) -> int:
    """Print all jobs; return 0. Raises ConfigError if nothing runs."""
    with service_client(settings) as client:
        rows = _jobs(client)
    if as_json:
        print_json(console, rows)
    else:
        print_table(console, jobs_table(rows))
    return 0


def jobs_table(rows: list[dict[str, Any]]) -> Table:
    """Return jobs as people read them."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("job, and when it runs", "next (UTC)", "last, took"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what came of it", overflow="fold", min_width=12)
    for row in rows:
        state = "[yellow]paused[/yellow]" if row["paused"] else _clock(row["next_run_at"])
        last = "running" if row["running"] else row["last_outcome"] or "never ran"
        colour = "red" if last in ("failed", "timeout", "lost") else "green"
        took_s = row["last_duration_seconds"]
        table.add_row(
            f"{row['name']}\n[dim]{escape(row['schedule'])}[/dim]",
            state,
            (f"[{colour}]{last}[/{colour}]" if row["runs"] else last)
            + ("" if took_s is None else f"\n[dim]{took_s:.1f} s[/dim]"),
            escape(row["last_message"]),
        )
    return table


def run_job(settings: Settings, console: Console, name: str) -> int:
    """Run a job and wait for its end; return 0 if it went well, else 1."""
    with service_client(settings) as client:
        run_id = _post(client, name, "run")["run_id"]
        with console.status(f"{name} runs …"):
            while (row := _job(client, name))["run_id"] == run_id:
                time.sleep(_LOOK_EVERY_S)
    console.print(
        f"{name}: {row['last_outcome']} in {row['last_duration_seconds']:.1f} s: "
        f"{row['last_message']}",
        markup=False,
        soft_wrap=True,
    )
    return 0 if row["last_outcome"] == "ok" else 1


def pause_job(settings: Settings, console: Console, name: str, pause: bool) -> int:
    """Let a job rest, or run again; return 0."""
    with service_client(settings) as client:
        _post(client, name, "pause" if pause else "resume")
    console.print(f"{name} is paused" if pause else f"{name} runs at its times again")
    return 0


def _jobs(client: Client) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = asked(client, "GET", "/api/scheduler/jobs")["jobs"]
    return rows


def _job(client: Client, name: str) -> dict[str, Any]:
    return next(row for row in _jobs(client) if row["name"] == name)


def _post(client: Client, name: str, what: str) -> Any:
    return asked(client, "POST", f"/api/scheduler/jobs/{name}/{what}")


def _clock(at: str | None) -> str:
    return "" if at is None else at[:16].replace("T", " ")
