"""What a benchmark found: claims, tables, samples; as a page and as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.machine import Machine


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of the README, what was measured of it, and whether it holds."""

    text: str
    measured: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; cells are text already."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(slots=True)
class Report:
    """One benchmark's results; `samples` is everything that was measured, by name.

    `command`: what measures it again, where that is not `python -m benchmarks NAME`.
    """

    name: str
    title: str
    method: str
    claims: list[Claim] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    def write(self, folder: Path, machine: Machine, load_after: float) -> None:
        """Write NAME.md and NAME.json."""
        facts = asdict(machine) | {"load_after": load_after, "command": self._command}
        (folder / f"{self.name}.md").write_text(self._page(facts))
        data = {"machine": facts, "claims": [asdict(c) for c in self.claims]}
        body = orjson.dumps(data | {"samples": self.samples}, option=orjson.OPT_INDENT_2)
        (folder / f"{self.name}.json").write_bytes(body + b"\n")

    @property
    def _command(self) -> str:
        return self.command or f"python -m benchmarks {self.name}"

    def _page(self, facts: dict[str, Any]) -> str:
        parts = [
            f"# {self.title}",
            _lines(Table("", ("claim", "measured", "holds"), [_row(c) for c in self.claims])),
            *(f"## {table.title}\n\n{_lines(table)}" for table in self.tables),
            f"## How\n\n{self.method}",
            "## Where",
            _lines(Table("", ("", ""), [(k.replace("_", " "), str(v)) for k, v in facts.items()])),
        ]
        return "\n\n".join(parts) + "\n"


def _row(claim: Claim) -> tuple[str, str, str]:
    return claim.text, claim.measured, "yes" if claim.holds else "**no**"


def _lines(table: Table) -> str:
    rule = ["---"] * len(table.header)
    rows = [table.header, rule, *table.rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
