"""The pages of `docs/use`: their blocks, and what a test needs to run them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "use"
PAGES = ("bot", "dashboard", "notebook", "server")
NOTEBOOK = "notebook"  # its python blocks are cells of one namespace, in a loop that runs

SERVICE = "127.0.0.1:8000"  # what pages say, and tests replace by the service of theirs
DATA_DIR = "~/.local/share/finstage"
BIN = ".venv/bin/"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "
_CELL = "\x1e"  # written after what each cell printed and showed

_LIFECYCLE = "tests/lifecycle/test_start_and_stop.py::"
_UP = f"{_LIFECYCLE}test_the_background_service_is_ended_by_down"
_UNIT = "tests/unit/test_guide_blocks.py::test_the_unit_is_what_the_page_says"

# Commands that cannot be run beside the shared service: why, and the test that runs what is ours
# in them. Every other command of the pages is run by tests/integration/test_guides.py.
ELSEWHERE = {
    "make setup": ("what `make test` begins with", "Makefile::setup"),
    ".venv/bin/finstage doctor": (
        "its exit code is the machine's",
        f"{_LIFECYCLE}test_ctrl_c_stops_everything",
    ),
    ".venv/bin/finstage up --detach": ("starts a service", _UP),
    ".venv/bin/finstage down": ("stops the service", _UP),
    ".venv/bin/finstage restore finstage.db --yes": (
        "needs a service that is stopped",
        "tests/contract/test_store_moves.py::test_a_backup_restores_all_that_was_there",
    ),
    "git pull": ("changes the files under test", "Makefile::setup"),
    "python3 -m http.server 8080 --bind 127.0.0.1": (
        "never ends",
        "tests/browser/test_guide_dashboard.py::test_each_page_of_the_guide_shows_live_prices",
    ),
    "sudo useradd --system --home-dir /var/lib/finstage --shell /usr/sbin/nologin finstage": (
        "needs root",
        _UNIT,
    ),
    "sudo install -m 644 deploy/systemd/finstage.service /etc/systemd/system/finstage.service": (
        "needs root",
        _UNIT,
    ),
    "sudo install -m 600 -D /dev/null /etc/finstage/finstage.env": ("needs root", _UNIT),
    "sudo systemctl daemon-reload": ("needs root and systemd", _UNIT),
    "sudo systemctl enable --now finstage": (
        "needs root and systemd; it starts again what ends with 1",
        f"{_LIFECYCLE}test_the_service_ends_when_ray_dies_under_it",
    ),
    "sudo -u finstage FINSTAGE_DATA_DIR=/var/lib/finstage "
    "/opt/finstage/.venv/bin/finstage status": (
        "needs root and the unit's user",
        f"{_LIFECYCLE}test_ctrl_c_stops_everything",
    ),
}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page; `number` counts those of its language, from 1."""

    page: str
    language: str
    number: int
    line: int
    text: str

    @property
    def name(self) -> str:
        """How tests call it, such as `bot-python-2`."""
        return f"{self.page}-{self.language}-{self.number}"

    @property
    def where(self) -> str:
        """File and line."""
        return f"docs/use/{self.page}.md:{self.line}"


def page_text(page: str) -> str:
    """Return a page as it is written."""
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str, language: str = "") -> list[Block]:
    """Return the fenced blocks of a page in order, or those of a language."""
    text, counts, found = page_text(page), dict[str, int](), []
    for fence in _FENCE.finditer(text):
        kind = fence[1]
        counts[kind] = counts.get(kind, 0) + 1
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, kind, counts[kind], line, fence[2]))
    return [block for block in found if language in ("", block.language)]


def all_blocks(language: str = "") -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES for block in blocks(page, language)]


def commands(block: Block) -> list[str]:
    """Return what a console block tells to type; the other lines are what it prints.

    A command goes on while a line ends with a backslash or a quote is open.
    """
    found: list[str] = []
    is_open = False
    for line in block.text.splitlines():
        if is_open:
            found[-1] += "\n" + line
        elif line.startswith(_PROMPT):
            found.append(line.removeprefix(_PROMPT))
        else:
            continue
        is_open = _goes_on(found[-1])
    return found


def _goes_on(command: str) -> bool:
    if command.endswith("\\"):
        return True
    try:
        shlex.split(command)
    except ValueError:  # no closing quotation
        return True
    return False


def here(text: str, url: str, data_dir: Path) -> str:
    """Return a block's text for the service at `url` and the commands of this Python."""
    address = url.partition("://")[2]
    scripts = f"{Path(sys.executable).parent}/"
    return text.replace(SERVICE, address).replace(DATA_DIR, str(data_dir)).replace(BIN, scripts)


# -- a notebook, without Jupyter ---------------------------------------------------------------


async def run_cells(cells: Sequence[str]) -> None:
    """Run cells as a notebook does: one namespace, a loop that runs, the last value shown."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        statements = ast.parse(cell).body
        last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
        await _value(ast.Module(statements, []), "exec", namespace)
        if isinstance(last, ast.Expr):
            shown = await _value(ast.Expression(last.value), "eval", namespace)
            if shown is not None:
                sys.stdout.write(f"{shown!r}\n")
        sys.stdout.write(_CELL)


async def _value(code: ast.Module | ast.Expression, mode: str, namespace: dict[str, Any]) -> Any:
    compiled = compile(code, "cell", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    value = eval(compiled, namespace)
    return await value if compiled.co_flags & inspect.CO_COROUTINE else value


def outputs(stdout: str) -> Iterator[str]:
    """Yield what each cell of `run_cells` printed and showed."""
    yield from stdout.split(_CELL)[:-1]


if __name__ == "__main__":
    asyncio.run(run_cells(json.load(sys.stdin)))
