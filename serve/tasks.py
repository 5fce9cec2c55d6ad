"""`finstage submit` and `finstage tasks`: background work from the command line."""

from __future__ import annotations

import time
from typing import Any

import orjson
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.errors import ConfigError
from infra.settings import Settings
from serve.local_http import Client, asked, local_client

_LOOK_EVERY_S = 0.25
_ENDED = ("completed", "failed", "cancelled")
_COLOURS = {
    "completed": "green", "failed": "red", "cancelled": "yellow", "running": "cyan",
    "retrying": "yellow",
}  # fmt: skip


def submit_task(
    settings: Settings,
    console: Console,
    name: str,
    arguments: list[str],
    priority: str,
    wait: bool,
) -> int:
    """Submit a task; with `wait` show its progress and its result. Return 0 unless it failed."""
    body: dict[str, Any] = {"task_name": name, "kwargs": _kwargs(arguments)}
    if priority:
        body["priority"] = priority
    with local_client(settings) as client:
        task = asked(client, "POST", "/api/tasks/submit", json=body)["data"]
        if not wait:
            console.print(task["task_id"])
            return 0
        shown = _watched(client, console, task["task_id"], name)
        result = asked(client, "GET", f"/api/tasks/task/{task['task_id']}/result")
    if shown["status"] == "completed":
        told = result["result_file"] if result.get("result_file") else result["result"]
        console.print_json(orjson.dumps(told).decode())
        return 0
    console.print(f"{name} {shown['status']}: {result['error']}", style="red", markup=False)
    return 1


def _kwargs(arguments: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--arg {text} should be NAME=VALUE")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:  # text without quotes
            found[name] = value
    return found


def _watched(client: Client, console: Console, task_id: str, name: str) -> dict[str, Any]:
    """Show a bar until the task has ended; return the task."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[message]}"), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(name, total=100, message="")
        while True:
            shown: dict[str, Any] = asked(client, "GET", f"/api/tasks/task/{task_id}")["data"]
            message = shown["progress_message"] or shown["status"]
            bars.update(bar, completed=shown["progress"], message=message)
            if shown["status"] in _ENDED:
                return shown
            time.sleep(_LOOK_EVERY_S)


def show_tasks(settings: Settings, console: Console, follow: bool, last: int) -> int:
    """Show the newest tasks and those that run; with `follow` until interrupted. Return 0."""
    with local_client(settings) as client:
        if not follow:
            console.print(_table(client, last))
            return 0
        with Live(_table(client, last), console=console, auto_refresh=False) as live:
            try:
                while True:
                    time.sleep(_LOOK_EVERY_S)
                    live.update(_table(client, last), refresh=True)
            except KeyboardInterrupt:
                return 0


def _table(client: Client, last: int) -> Table:
    status = asked(client, "GET", "/api/tasks/status")["data"]
    figures = status["queue_statistics"]
    running = asked(client, "GET", "/api/tasks", params={"status": "running", "size": 50})["items"]
    newest = asked(client, "GET", "/api/tasks", params={"size": last})["items"]
    rows = running + [task for task in newest if task["status"] != "running"][:last]
    table = Table(title=_title(status["system_status"], figures), title_justify="left")
    table.add_column("task", no_wrap=True, min_width=16)
    table.add_column("id", no_wrap=True, min_width=8)
    for heading in ("status", "progress", "took"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what came of it", overflow="fold")
    for task in rows:
        colour = _COLOURS.get(task["status"], "white")
        took_s = task["execution_time"]
        table.add_row(
            task["task_name"],
            task["task_id"],
            f"[{colour}]{task['status']}[/{colour}]",
            _bar(task["progress"]) if task["status"] != "pending" else "",
            "" if took_s is None else f"{took_s:.1f} s",
            (task["error"] or task["progress_message"])[:80],
        )
    return table


def _title(state: str, figures: dict[str, Any]) -> str:
    return (
        f"queue {state}: {figures['running_tasks']} running, {figures['pending_tasks']} waiting, "
        f"{figures['scheduled_tasks']} later, {figures['total_completed']} completed, "
        f"{figures['total_failed']} failed"
    )


def _bar(pct: float, width: int = 10) -> str:
    done = round(width * pct / 100)
    return f"{'━' * done}[dim]{'━' * (width - done)}[/dim] {pct:3.0f} %"
