"""The pages of the README and docs: their blocks, and what a test needs to run them."""

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
FILES = {
    path.stem: path
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/use/*.md"))
}
PAGES = tuple(sorted(FILES))
GUIDES = ("bot", "dashboard", "notebook", "server")  # each for one kind of user
NOTEBOOK = "notebook"  # its python blocks are cells of one namespace, in a loop that runs

SERVICE = "127.0.0.1:8000"  # what pages say, and tests replace by the service of theirs
DASHBOARD = "127.0.0.1:8265"
DATA_DIR = "~/.local/share/finstage"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "
_HEREDOC = re.compile(r"<<'(\w+)'\n(?!.*^\1$)", re.MULTILINE | re.DOTALL)
_MODULE = re.compile(r"# (\w+\.py)\n")  # the first line of a block that is a file
_CELL = "\x1e"  # written after what each cell printed and showed, and after each command
_CODE = "\x1f"  # between what a command printed and how it ended


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
        return f"{FILES[self.page].relative_to(ROOT)}:{self.line}"

    @property
    def module(self) -> str:
        """The file that this block is, such as `risk.py`; empty for others."""
        found = _MODULE.match(self.text)
        return found[1] if found else ""

    @property
    def awaits(self) -> bool:
        """Whether it is a notebook's cell, which awaits outside of any function."""
        try:
            compile(self.text, self.where, "exec")
        except SyntaxError:
            return True
        return False


def page_text(page: str) -> str:
    """Return a page as it is written."""
    return FILES[page].read_text(encoding="utf-8")


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


def modules(folder: Path) -> list[str]:
    """Write the blocks that are files of Python into a folder; return their names."""
    found = [block for block in all_blocks("python") if block.module]
    for block in found:
        (folder / block.module).write_text(block.text, encoding="utf-8")
    return [block.module.removesuffix(".py") for block in found]


def commands(block: Block) -> list[str]:
    """Return what a console block tells to type; the other lines are what it prints.

    A command goes on while a line ends with a backslash, or a quote or a here-document is open.
    A comment at its end is left out.
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
    return [re.sub(r" {2,}# .*$", "", command) for command in found]


def _goes_on(command: str) -> bool:
    if command.endswith("\\") or _HEREDOC.search(command + "\n"):
        return True
    try:
        shlex.split(command, comments=True)
    except ValueError:  # no closing quotation
        return "<<" not in command
    return False


def here(text: str, url: str, data_dir: Path, dashboard: int = 8265) -> str:
    """Return a block's text for the service at `url`."""
    address = url.partition("://")[2]
    turned = text.replace(SERVICE, address).replace(DASHBOARD, f"127.0.0.1:{dashboard}")
    return turned.replace(DATA_DIR, str(data_dir))


# -- a clone, and a shell in it ----------------------------------------------------------------


def clone(folder: Path) -> Path:
    """Make a folder that looks like a clone after `make setup`, without settings of its own."""
    for path in ROOT.iterdir():
        if path.name not in (".env", ".git", ".venv"):
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    modules(folder)
    return folder


def in_one_shell(lines: Sequence[str]) -> str:
    """Return a script that runs commands as one shell would, and tells of each how it ended."""
    told = f"printf '{_CODE}%s{_CELL}' $?"
    return "exec 2>&1\n" + "".join(f"{line}\n{told}\n" for line in lines)


def ends(stdout: str) -> list[tuple[str, int]]:
    """Return what each command of `in_one_shell` printed, and its exit code."""
    parts = [part.partition(_CODE) for part in stdout.split(_CELL)[:-1]]
    return [(printed, int(code)) for printed, _, code in parts]


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
