"""What can be said of a source without opening it."""

from __future__ import annotations

from dataclasses import dataclass

from infra.periods import DAILY_INTERVALS
from infra.settings import Settings


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """`synthetic`: its prices between bars are made. `intervals`: those it has bars of."""

    name: str
    synthetic: bool
    intervals: tuple[str, ...]


def source_facts(settings: Settings) -> SourceFacts:
    """Return the facts of the source that the settings name."""
    return {"replay": SourceFacts("replay", True, DAILY_INTERVALS)}[settings.source]
