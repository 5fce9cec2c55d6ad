"""What is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `id` is the same however often it is sent: receivers know it by that.

    `at` is UTC; `facts` go as they are into JSON.
    """

    id: str
    kind: str
    title: str
    text: str
    severity: str
    at: datetime
    facts: dict[str, Any] = field(default_factory=dict)
