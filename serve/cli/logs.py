"""`finstage logs`: the lines of all processes, in order of time."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_COLOURS = {"DEBUG": "dim", "INFO": "", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_HEAD = ("timestamp", "level", "process", "pid", "event", "traceback")
_LOOK_EVERY_S = 0.25


def show_logs(
    log_dir: Path,
    console: Console,
    follow: bool,
    process: str,
    level: str,
    request: str,
    last: int,
    raw: bool,
) -> None:
    """Print the last lines that fit the filters; with `follow`, go on for ever."""

    def fits(line: dict[str, Any]) -> bool:
        return (
            _LEVELS.get(line["level"], 0) >= _LEVELS[level]
            and process in ("", line["process"])
            and request in ("", line.get("request_id"))
        )

    ends: dict[Path, int] = {}
    lines = [line for path in _files(log_dir) for line in _lines(path, ends)]
    for line in heapq.nlargest(last, filter(fits, lines), key=_stamp)[::-1]:
        _print(console, line, raw)
    if not follow and not any(map(fits, lines)):
        console.print(f"no line of {log_dir} fits; answers from memory are not logged")
    while follow:
        time.sleep(_LOOK_EVERY_S)
        fresh = [line for path in _files(log_dir) for line in _lines(path, ends)]
        for line in sorted(filter(fits, fresh), key=_stamp):
            _print(console, line, raw)


def _files(log_dir: Path) -> list[Path]:
    return sorted(log_dir.glob("*.jsonl"))


def _stamp(line: dict[str, Any]) -> str:
    return str(line["timestamp"])


def _lines(path: Path, ends: dict[Path, int]) -> Iterator[dict[str, Any]]:
    """Yield the whole lines written since the last look; a file that shrank was rotated."""
    if path.stat().st_size < ends.get(path, 0):
        ends[path] = 0
    with path.open("rb") as file:
        file.seek(ends.get(path, 0))
        for line in file:
            if not line.endswith(b"\n"):
                break
            ends[path] = ends.get(path, 0) + len(line)
            with contextlib.suppress(orjson.JSONDecodeError):  # cut, where the disk was full
                yield orjson.loads(line)


def _print(console: Console, line: dict[str, Any], raw: bool) -> None:
    if raw:
        console.print(orjson.dumps(line).decode(), markup=False, soft_wrap=True)
        return
    facts = " ".join(f"{k}={v}" for k, v in line.items() if k not in (*_HEAD, "logger"))
    text = Text(f"{line['timestamp'][11:23]} ", style="dim")
    text.append(f"{line['process']:<10} ", style="cyan")
    text.append(line["event"], style=_COLOURS.get(line["level"], ""))
    text.append(f" {facts}", style="dim")
    if "traceback" in line:
        text.append(f"\n{line['traceback']}", style="red")
    console.print(text, soft_wrap=True)
