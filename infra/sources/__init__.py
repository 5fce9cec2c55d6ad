"""Where prices come from: every source by name, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable

from infra.clock import Clock
from infra.settings import Settings
from infra.sources.base import Source
from infra.sources.replay import ReplaySource, load_records

Factory = Callable[[Settings, Clock, float], Source]


def _replay(settings: Settings, clock: Clock, started_at_s: float) -> Source:
    return ReplaySource(
        load_records(),
        clock,
        started_at_s,
        session_s=settings.replay_session_s,
        ticks_per_session=settings.replay_ticks,
        seed=settings.replay_seed,
    )


SOURCES: dict[str, Factory] = {"replay": _replay}


def build_source(settings: Settings, clock: Clock, started_at_s: float) -> Source:
    """Return the source that the settings name.

    `started_at_s` (Unix seconds) is when it first started, not when this process did: a source
    that plays forward goes on from there.
    """
    return SOURCES[settings.source](settings, clock, started_at_s)
