"""`finstage jobs`: what the running service's scheduler does."""

from __future__ import annotations

import time
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from infra.errors import ConfigError
from infra.settings import Settings
from serve.state import read_state

_LOOK_EVERY_S = 0.3


def show_jobs(settings: Settings, console: Console) -> int:
    """Print all jobs; return 0. Raises ConfigError if nothing runs."""
    with _client(settings) as client:
        rows = _jobs(client)
    table = Table("job", "schedule", "next (UTC)", "last", "took", "what came of it")
    for row in rows:
        state = "[yellow]paused[/yellow]" if row["paused"] else _clock(row["next_run_at"])
        last = "running" if row["running"] else row["last_outcome"] or "never ran"
        colour = "red" if last in ("failed", "timeout", "lost") else "green"
        took_s = row["last_duration_seconds"]
        table.add_row(
            row["name"],
            row["schedule"],
            state,
            f"[{colour}]{last}[/{colour}]" if row["runs"] else last,
            "" if took_s is None else f"{took_s:.1f} s",
            row["last_message"],
        )
    console.print(table)
    return 0


def run_job(settings: Settings, console: Console, name: str) -> int:
    """Run a job and wait for its end; return 0 if it went well, else 1."""
    with _client(settings) as client:
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
    with _client(settings) as client:
        _post(client, name, "pause" if pause else "resume")
    console.print(f"{name} is paused" if pause else f"{name} runs at its times again")
    return 0


def _client(settings: Settings) -> httpx.Client:
    state = read_state(settings)
    if state is None or not state.runs:
        raise ConfigError(f"nothing runs on {settings.data_dir}; `finstage up` starts it")
    key = next(iter(settings.keys.values()), "")
    headers = {"X-API-Key": key} if key else {}
    return httpx.Client(base_url=state.url, headers=headers, timeout=30, trust_env=False)


def _jobs(client: httpx.Client) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _checked(client, "GET", "/api/scheduler/jobs")["jobs"]
    return rows


def _job(client: httpx.Client, name: str) -> dict[str, Any]:
    return next(row for row in _jobs(client) if row["name"] == name)


def _post(client: httpx.Client, name: str, what: str) -> Any:
    return _checked(client, "POST", f"/api/scheduler/jobs/{name}/{what}")


def _checked(client: httpx.Client, method: str, path: str) -> Any:
    try:
        answer = client.request(method, path)
    except httpx.HTTPError as error:
        raise ConfigError(f"no answer at {client.base_url}: {type(error).__name__}") from None
    if answer.is_error:
        detail = answer.json().get("detail", {})
        raise ConfigError(detail["message"] if isinstance(detail, dict) else answer.text[:300])
    return answer.json()


def _clock(at: str | None) -> str:
    return "" if at is None else at[:16].replace("T", " ")
