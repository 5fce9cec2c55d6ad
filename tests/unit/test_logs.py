"""Log lines: JSON, with the request's id, and a traceback only where something broke."""

from __future__ import annotations

import json
import logging
import os
import sys
from io import StringIO
from pathlib import Path

import orjson
from rich.console import Console

from infra.context import bound_request_id, new_request_id
from infra.logs import JsonFormatter, remove_old_logs
from serve.cli.logs import show_logs


def record(level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": "bars.loaded", "levelno": level, "levelname": "INFO"})
    vars(made).update(extra)
    return made


def test_a_line_has_the_facts_and_the_request_id() -> None:
    with bound_request_id("r-1"):
        line = orjson.loads(JsonFormatter("feed").format(record(symbol="AAPL", _private=1)))

    assert (line["event"], line["process"], line["symbol"]) == ("bars.loaded", "feed", "AAPL")
    assert line["request_id"] == "r-1"
    assert line["timestamp"].endswith("+00:00")
    assert "_private" not in line


def test_what_a_line_says_of_itself_is_not_overwritten() -> None:
    said = record(pid=1)
    vars(said)["level"] = "critical"
    line = orjson.loads(JsonFormatter("feed").format(said))

    assert (line["level"], line["level_"]) == ("INFO", "critical")
    assert line["pid"] == os.getpid()


def test_what_has_no_utf_8_is_logged_all_the_same() -> None:
    text = JsonFormatter("feed").format(record(said="half \ud800", count=10**30))

    assert text.isascii()
    assert json.loads(text)["said"] == "half \ud800"
    assert json.loads(text)["count"] == 10**30


def test_an_exception_is_in_the_log() -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        line = orjson.loads(JsonFormatter("feed").format(record(exc_info=sys.exc_info())))

    assert "KeyError: 'gone'" in line["traceback"]


def test_only_ids_that_are_safe_to_log_are_taken() -> None:
    assert new_request_id("desk-17.a_B") == "desk-17.a_B"
    for unsafe in ("", "a b", "x" * 65, 'a"b', "a\nb"):
        assert new_request_id(unsafe) not in ("", unsafe)


def test_old_files_go_and_new_ones_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "feed-1.jsonl", tmp_path / "feed-2.jsonl"
    for path in (old, new):
        path.write_text("{}\n")
    os.utime(old, (1, 1))

    assert remove_old_logs(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["feed-2.jsonl"]


def test_lines_of_all_processes_are_shown_in_order_of_time(tmp_path: Path) -> None:
    def write(process: str, *stamps: str) -> None:
        lines = [
            orjson.dumps(
                {
                    "timestamp": f"2026-01-01T00:00:{s}.000+00:00",
                    "level": "INFO",
                    "process": process,
                    "event": f"{process}.{s}",
                }
            )
            for s in stamps
        ]
        (tmp_path / f"{process}-1.jsonl").write_bytes(b"\n".join(lines) + b"\n{half a li")

    write("feed", "01", "03")
    write("hub", "02")
    console = Console(record=True, width=200)

    show_logs(tmp_path, console, False, "", "INFO", "", 100, False)

    shown = [line.split()[2] for line in console.export_text().strip().splitlines()]
    assert shown == ["feed.01", "hub.02", "feed.03"]


def test_a_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    line = JsonFormatter("feed").format(record())
    file = tmp_path / "feed-1.jsonl"
    file.write_text(f"{line}\n{line[:20]}\n\n{line}\n")
    shown = StringIO()

    show_logs(tmp_path, Console(file=shown), False, "", "DEBUG", "", 10, True)

    assert shown.getvalue().count(orjson.loads(line)["event"]) == 2
