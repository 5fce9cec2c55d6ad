"""The page `docs/configuration.md`, made from the settings: `python -m serve.cli.confdoc`."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from infra.settings import PREFIX, Settings

_INTRODUCTION = """\
# Configuration

<!-- Generated: python -m serve.cli.confdoc > docs/configuration.md -->

Settings are environment variables, or lines `NAME=value` of the file `.env` in the directory
that `finstage` is started in; the environment goes before the file. They are read once, at
start. An empty value counts as not set. An unknown `FINSTAGE_` name, or a value out of bounds,
stops the start with one line that names it. `finstage config` shows every setting, its value
and where it came from, with keys masked.

Names end with their unit: `_S` seconds, `_MS` milliseconds, `_BYTES` bytes. Lists are comma
separated. Switches are `true` or `false`.
"""
_SECTION = re.compile(r" *# -- (.+?) -+$")
_COMMENT = re.compile(r" *# (.+)$")
_FIELD = re.compile(r" {4}(\w+): ")
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_MIB = 2**20


@dataclass(slots=True)
class _Section:
    """Fields that stand together, each with the comment above it."""

    title: str
    notes: dict[str, str] = field(default_factory=dict)


def render() -> str:
    """Return the page as Markdown: a table for each section of `Settings`."""
    return "\n".join([_INTRODUCTION, *map(_table, _sections())])


def _sections() -> list[_Section]:
    """Return the sections in the order of the source, whose comments are their only home."""
    sections: list[_Section] = []
    comment: list[str] = []
    for line in inspect.getsource(Settings).splitlines():
        if found := _SECTION.match(line):
            sections.append(_Section(found[1]))
        elif found := _COMMENT.match(line):
            comment.append(found[1])
            continue
        elif (found := _FIELD.match(line)) and found[1] in Settings.model_fields:
            sections[-1].notes[found[1]] = " ".join(comment)
        comment.clear()
    return sections


def _table(section: _Section) -> str:
    rows = [
        f"| {' | '.join(_row(name, note))} |".replace("|  |", "| |")
        for name, note in section.notes.items()
    ]
    title = section.title[0].upper() + section.title[1:]
    head = "| setting | default | bounds | meaning |\n|---|---|---|---|"
    return "\n".join([f"## {title}\n", head, *rows, ""])


def _row(name: str, note: str) -> tuple[str, str, str, str]:
    info = Settings.model_fields[name]
    meaning = f"{info.description} {note}".strip().replace("|", "\\|")
    return f"`{PREFIX}{name.upper()}`", _default(info.default), _bounds(info), meaning


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in ("", ()):
        return "empty"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, int | float):
        return _number(value)
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"


def _number(value: float) -> str:
    if isinstance(value, float):
        return f"`{value:g}`"
    mebibytes, rest = divmod(value, _MIB)
    return f"`{value}`" + (f" ({mebibytes} MiB)" if mebibytes and not rest else "")


def _bounds(info: FieldInfo) -> str:
    if choices := [c for c in get_args(info.annotation) if isinstance(c, str)]:
        return " or ".join(f"`{choice}`" for choice in choices)
    return ", ".join(
        f"{sign} {_number(getattr(rule, name))}"
        for rule in info.metadata
        for name, sign in _SIGNS.items()
        if hasattr(rule, name)
    )


if __name__ == "__main__":
    sys.stdout.write(render())
