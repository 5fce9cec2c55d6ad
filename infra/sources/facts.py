"""What can be said of a source without opening it."""

from __future__ import annotations

from dataclasses import dataclass

from infra.periods import DAILY_INTERVALS, INTERVALS
from infra.settings import Settings


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """`synthetic`: its prices between bars are made. `intervals`: those it has bars of.

    `is_open`: it has more symbols than it can list. Several sources in a chain are told of as
    the first one.
    """

    name: str
    synthetic: bool
    intervals: tuple[str, ...]
    is_open: bool = False


_FACTS = {
    "replay": SourceFacts("replay", True, DAILY_INTERVALS),
    "simulated": SourceFacts("simulated", True, INTERVALS),
    "yahoo": SourceFacts("yahoo", False, INTERVALS, is_open=True),
}


def source_facts(settings: Settings) -> SourceFacts:
    """Return the facts of the source that the settings name.

    Raises ValueError if that is a file which cannot be read.
    """
    if settings.recording is not None:
        from infra.sources.recorded.recording import read_header

        header = read_header(settings.recording)
        return SourceFacts("recording", header.synthetic, INTERVALS)
    return _FACTS[settings.source.split(",")[0]]
