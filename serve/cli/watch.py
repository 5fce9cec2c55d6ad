"""`finstage monitor`: how the running service does, line by line, and what one should do."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from infra.errors import ConfigError
from infra.files import write_atomically
from infra.settings import Settings
from serve.cli.local_http import Client, asked, service_client

_COLOURS = {"excellent": "green", "good": "green", "fair": "yellow", "poor": "red"}
# An option, and the rules of the service whose threshold it is.
_RULES = {
    "memory_threshold": "high_memory_usage",
    "cpu_threshold": "high_cpu_usage",
    "response_threshold": "slow_api_response",
}


def monitor(
    settings: Settings,
    console: Console,
    interval_s: float,
    thresholds: dict[str, float],
    auto_tuning: bool | None,
    lines: int,
    save: Path | None,
) -> int:
    """Print a line each `interval_s` seconds until Ctrl-C, `lines` of them where that is not 0.

    `thresholds` go to the service's alert rules before. `save`: a folder for what was seen, as
    `performance_history_YYYYMMDD_HHMMSS.json`. Raises ConfigError if nothing runs.
    """
    seen: list[dict[str, Any]] = []
    with service_client(settings) as client:
        _configure(client, thresholds, auto_tuning)
        console.print(f"watching {client.base_url}, every {interval_s:g} s; Ctrl-C ends it")
        try:
            while True:
                seen += _look(client, console)
                if lines and len(seen) >= lines:
                    break
                time.sleep(interval_s)
        except KeyboardInterrupt:
            console.print()
        if save is not None:
            console.print(f"written: {_save(client, save, seen)}", soft_wrap=True)
    return 0


def _look(client: Client, console: Console) -> list[dict[str, Any]]:
    try:
        current = asked(client, "GET", "/api/metrics/current")
    except ConfigError as error:  # it restarts, or there is no reading yet
        console.print(f"[yellow]{error}[/yellow]")
        return []
    alerts = asked(client, "GET", "/api/v2/alerts")["data"]["active_alerts"]
    console.print(_line(current))
    for alert in alerts:
        if not alert["acknowledged"]:
            console.print(f"  [red]{alert['severity']}[/red] {alert['message']}")
    return [current]


def _line(current: dict[str, Any]) -> str:
    word = current["status"]
    colour = _COLOURS.get(word, "bold red")
    parts = [
        f"{current['timestamp'][11:19]} [{colour}]{word:9}[/{colour}]",
        f"memory {current['memory_usage_percent']:.0f} %",
        f"CPU {current['cpu_usage_percent']:.0f} %",
        f"response {_or_dash(current['avg_response_time_ms'], 'ms')}",
        f"p95 {_or_dash(current['p95_response_time_ms'], 'ms')}",
        f"errors {_or_dash(current['error_rate_percent'], '%')}",
        f"hits {_or_dash(current['cache_hit_rate_percent'], '%')}",
        f"{current['requests_per_second']:.1f} requests/s",
        f"{current['active_connections']} sockets",
    ]
    return "  ".join(parts)


def _or_dash(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.1f} {unit}"


def _configure(client: Client, thresholds: dict[str, float], auto_tuning: bool | None) -> None:
    """Let the service's own rules and tuning do what the options say."""
    rules = asked(client, "GET", "/api/v2/alerts/rules")["data"]["alert_rules"]
    for option, value in thresholds.items():
        rule = next((rule for rule in rules if rule["id"] == _RULES[option]), None)
        if rule is None:
            raise ConfigError(f"the service has no alert rule {_RULES[option]!r} any more")
        if rule["threshold"] != value:
            asked(client, "POST", "/api/v2/alerts/rules", json=rule | {"threshold": value})
    if auto_tuning is not None:
        asked(client, "POST", f"/api/v2/performance/tuning/{'start' if auto_tuning else 'stop'}")


def _save(client: Client, folder: Path, seen: list[dict[str, Any]]) -> Path:
    report = asked(client, "GET", "/api/v2/performance/report")
    name = f"performance_history_{datetime.now(UTC):%Y%m%d_%H%M%S}.json"
    folder.mkdir(parents=True, exist_ok=True)
    body = {"seen": seen, "report": report}
    write_atomically(folder / name, orjson.dumps(body, option=orjson.OPT_INDENT_2))
    return folder / name
