"""What can be said of a source without opening it."""

from __future__ import annotations

from dataclasses import dataclass

from infra.periods import DAILY_INTERVALS, INTERVALS
from infra.settings import Settings
from infra.sources.origin import Origin, origin_of


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """`synthetic`: its prices between bars are made. `intervals`: those it has bars of.

    `is_open`: it has more symbols than it can list. Several sources in a chain are told of as
    the first one. `recorded`: the source whose prices a recording has.
    """

    name: str
    synthetic: bool
    intervals: tuple[str, ...]
    is_open: bool = False
    recorded: str = ""

    @property
    def origin(self) -> Origin:
        """What is said of its prices."""
        return origin_of(self.name, self.recorded)


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
        return SourceFacts("recording", header.synthetic, INTERVALS, recorded=header.source)
    return _FACTS[settings.source.split(",")[0]]
