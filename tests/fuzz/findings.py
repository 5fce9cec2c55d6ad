"""What went wrong, each kind of it once, with what to type to see it again."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

_REMEMBERED = 50_000


@dataclass(slots=True)
class Finding:
    """One kind of fault. `again`: how to see it again."""

    kind: str
    what: str
    again: str
    count: int = 1


@dataclass(slots=True)
class Findings:
    """All kinds found, and what was tried meanwhile."""

    by_key: dict[str, Finding] = field(default_factory=dict)
    tried: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    _sent: OrderedDict[str, str] = field(default_factory=OrderedDict)

    def remember(self, request_id: str, again: str) -> None:
        """Keep what was sent under an id, for log lines that name it."""
        self._sent[request_id] = again
        if len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)

    def sent(self, request_id: str) -> str:
        """Return what was sent under an id."""
        return self._sent.get(request_id, "of no request: what was sent last is in the JSON")

    def last(self, count: int = 30) -> list[str]:
        """Return what was sent last."""
        return list(self._sent.values())[-count:]

    def is_new(self, key: str) -> bool:
        """Count a fault of this key; return whether it is the first one."""
        known = self.by_key.get(key)
        if known is not None:
            known.count += 1
        return known is None

    def add(self, key: str, finding: Finding) -> None:
        """Add a fault, unless there is one of its key."""
        self.by_key.setdefault(key, finding)

    def of(self, kind: str) -> list[Finding]:
        """Return the faults of a kind."""
        return [finding for finding in self.by_key.values() if finding.kind == kind]


class LogWatch:
    """Tracebacks in the log files of a service, those after its making."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self.tracebacks()

    def tracebacks(self) -> list[dict[str, Any]]:
        """Return the lines with a traceback that are new."""
        found = []
        for path in self._folder.glob("*.jsonl"):
            start = self._read.get(path, 0)
            if path.stat().st_size < start:
                start = 0  # begun anew at its size's limit
            with path.open("rb") as file:
                file.seek(start)
                text = file.read()
            whole, newline, _ = text.rpartition(b"\n")
            self._read[path] = start + len(whole) + len(newline)
            for line in whole.splitlines():
                if b'"traceback"' in line:
                    found.append(orjson.loads(line))
        return found
