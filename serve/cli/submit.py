"""`finstage submit` and `finstage tasks`: background work from the command line."""

from __future__ import annotations

import time
from typing import Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.errors import ConfigError
from infra.settings import Settings
from serve.cli.listing import print_json, print_table
from serve.cli.local_http import Client, Refused, asked, service_client

_LOOK_EVERY_S = 0.25
_ID_CHARS = 36
_SHOWN_CHARS = 400
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
    with service_client(settings) as client:
        try:
            task = asked(client, "POST", "/api/tasks/submit", json=body)["data"]
        except Refused as refused:
            raise ConfigError(_with_lists(refused, arguments)) from None
        if not wait:
            console.print(task["task_id"], soft_wrap=True)
            return 0
        shown = _watched(client, console, task["task_id"], name)
        result = asked(client, "GET", f"/api/tasks/task/{task['task_id']}/result")
    if shown["status"] == "completed":
        console.print_json(
            orjson.dumps(told_result(result, str(client.base_url).rstrip("/"))).decode()
        )
        return 0
    said = f"{name} {shown['status']}: {result['error']}"
    console.print(said, style="red", markup=False, soft_wrap=True)
    return 1


def _kwargs(arguments: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--arg {text} should be NAME=VALUE")
        found[name] = _value(value)
        if isinstance(found[name], str) and value.startswith(("[", "{")):
            hint = f", write {_as_list(name, value)}" if value[0] == "[" else ""
            raise ConfigError(f"--arg {text} is no JSON{hint}")
    return found


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # text without quotes
        return text


def _as_list(name: str, text: str) -> str:
    """Return how a list is given whose members `text` names, with or without signs of JSON.

    >>> print(_as_list("symbols", "[AAPL, IBM]"))
    --arg 'symbols=["AAPL","IBM"]'
    """
    members = [_value(part.strip(" \"'")) for part in text.strip("[] ").split(",")]
    return f"--arg '{name}={orjson.dumps(members).decode()}'"


def _with_lists(refused: Refused, arguments: list[str]) -> str:
    """Return what was refused, and how what should be a list is written."""
    given = dict(text.split("=", 1) for text in arguments)
    lists = [
        _as_list(name, given[name])
        for name, reason in refused.problems
        if "valid list" in reason and name in given
    ]
    return "; ".join([refused.message, *(f"write {text}" for text in lists)])


def told_result(result: dict[str, Any], url: str) -> Any:
    """Return a task's result, with the URLs of what it left at the service."""
    if "result_file" in result:
        return url + result["result_file"]
    told = result["result"]
    if not isinstance(told, dict) or not isinstance(told.get("files"), dict):
        return told
    urls = {kind: f"{url}/api/tasks/reports/{name}" for kind, name in told["files"].items()}
    return told | {"urls": urls}


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


def show_tasks(
    settings: Settings, console: Console, follow: bool, last: int, as_json: bool
) -> int:
    """Show the newest tasks and those that run; with `follow` until interrupted. Return 0."""
    if follow and as_json:
        raise ConfigError("--json says how it is now: leave out --follow")
    with service_client(settings) as client:
        if as_json:
            print_json(console, _rows(client, last))
            return 0
        if not follow:
            print_table(console, _table(client, last))
            return 0
        with Live(_table(client, last), console=console, auto_refresh=False) as live:
            try:
                while True:
                    time.sleep(_LOOK_EVERY_S)
                    live.update(_table(client, last), refresh=True)
            except KeyboardInterrupt:
                return 0


def _rows(client: Client, last: int) -> list[dict[str, Any]]:
    running = asked(client, "GET", "/api/tasks", params={"status": "running", "size": 50})["items"]
    newest = asked(client, "GET", "/api/tasks", params={"size": last})["items"]
    rows: list[dict[str, Any]] = running
    return rows + [task for task in newest if task["status"] != "running"][:last]


def _table(client: Client, last: int) -> Table:
    status = asked(client, "GET", "/api/tasks/status")["data"]
    title = _title(status["system_status"], status["queue_statistics"])
    return tasks_table(_rows(client, last), title)


def tasks_table(rows: list[dict[str, Any]], title: str) -> Table:
    """Return tasks as people read them: the id under the name, so that both are whole."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("task and its id", overflow="fold", min_width=_ID_CHARS)
    for heading in ("how it does", "took"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what came of it", overflow="fold", min_width=12)
    for task in rows:
        colour = _COLOURS.get(task["status"], "white")
        took_s = task["execution_time"]
        table.add_row(
            f"{escape(task['task_name'])}\n[dim]{task['task_id']}[/dim]",
            f"[{colour}]{task['status']}[/{colour}]{_bar(task)}",
            "" if took_s is None else f"{took_s:.1f} s",
            escape((task["error"] or task["progress_message"])[:_SHOWN_CHARS]),
        )
    return table


def _title(state: str, figures: dict[str, Any]) -> str:
    return (
        f"queue {state}: {figures['running_tasks']} running, {figures['pending_tasks']} waiting, "
        f"{figures['scheduled_tasks']} later, {figures['total_completed']} completed, "
        f"{figures['total_failed']} failed"
    )


def _bar(task: dict[str, Any], width: int = 10) -> str:
    if task["status"] not in ("running", "retrying"):
        return ""
    pct = task["progress"]
    done = round(width * pct / 100)
    return f"\n{'━' * done}[dim]{'━' * (width - done)}[/dim] {pct:3.0f} %"
