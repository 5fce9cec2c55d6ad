"""Lists on a terminal: what is asked for is there whole, however narrow that is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from infra.settings import Settings
from pipelines.jobs.registry import all_jobs
from serve.cli.config import show_config
from serve.cli.jobs import jobs_table
from serve.cli.listing import print_json, print_table
from serve.cli.submit import tasks_table
from tests.settings import made_settings

ID = "0f4c1f9e-9a55-4f0e-8f1e-2a4d1f4b6c3e"


def job(name: str) -> dict[str, Any]:
    return {
        "name": name, "schedule": "every 4 h, 20 min later", "paused": False, "running": False,
        "next_run_at": "2026-03-02T14:20:00+00:00", "last_outcome": "failed", "runs": 3,
        "last_duration_seconds": 12.0, "last_message": "[red]the source[/red] " + "x" * 100,
    }  # fmt: skip


def task(name: str) -> dict[str, Any]:
    return {
        "task_name": name, "task_id": ID, "status": "retrying", "progress": 40.0,
        "execution_time": None, "error": "ValueError: [/] " + "y" * 100, "progress_message": "",
    }  # fmt: skip


def printed(table: Table, width: int) -> str:
    out = io.StringIO()
    print_table(Console(file=out, width=width, highlight=False), table)
    return out.getvalue()


NAMES = sorted(all_jobs())
LONG = "tests.fakes.tasks.has_children", "daily_comprehensive_report", "Z" * 200


@pytest.mark.parametrize("width", [20, 40, 80, 120, 300])
def test_no_name_of_a_job_is_cut(width: int) -> None:
    text = printed(jobs_table([job(name) for name in NAMES]), width)
    lines = text.splitlines()
    assert "…" not in text
    for name in NAMES:
        assert any(name in line for line in lines), name
    assert "[red]the" in text


def test_a_job_takes_few_lines_on_a_terminal_of_80_columns() -> None:
    text = printed(jobs_table([job("analysis.technical") | {"last_message": "x" * 60}]), 80)
    assert "every 4 h, 20 min later" in text
    assert len(text.splitlines()) <= 3 + 4


def test_each_setting_is_one_line_with_its_value_and_then_its_meaning() -> None:
    out = io.StringIO()
    show_config(made_settings(port=8123), Console(file=out, width=80, highlight=False), False)
    lines = out.getvalue().splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("FINSTAGE_PORT=8123"))
    assert lines[place + 1].startswith("  ")
    assert {line.partition("=")[0] for line in lines if line[0] != " "} == {
        f"FINSTAGE_{name.upper()}" for name in Settings.model_fields
    }


@pytest.mark.parametrize("width", [20, 40, 80, 120, 300])
def test_no_name_or_id_of_a_task_is_cut(width: int) -> None:
    text = printed(tasks_table([task(name) for name in LONG], "queue running"), width)
    assert "…" not in text
    assert text.count(ID) == 3
    assert all(name in text for name in LONG[:2])
    assert text.count("Z") == 200  # folded, and all there
    assert "retrying" in text
    assert text.count("y") >= 300


@pytest.mark.parametrize("make", [jobs_table, lambda rows: tasks_table([], "")])
def test_a_list_of_nothing_is_its_head(make: Callable[[Any], Table]) -> None:
    assert "what came of it" in printed(make([]), 80)


def test_a_wide_terminal_is_not_filled_by_blanks() -> None:
    text = printed(jobs_table([job("bars.daily")]), 1_000)
    assert max(len(line) for line in text.splitlines()) < 300


@pytest.mark.parametrize("width", [10, 80])
def test_json_is_one_line_whatever_the_width(width: int) -> None:
    rows = [{"name": "[bold]x[/bold]", "text": "word " * 100}]
    out = io.StringIO()
    print_json(Console(file=out, width=width), rows)
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue()) == rows
