"""Where prices come from: every source by name, behind one protocol.

Each source is imported when it is built: what it needs is no weight on processes that only use
the types of `base`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from infra.clock import Clock
from infra.settings import Settings
from infra.sources.base import Source

Factory = Callable[[Settings, Clock, float], Source]


def _replay(settings: Settings, clock: Clock, started_at_s: float) -> Source:
    from infra.sources.replay import ReplaySource, load_records

    return ReplaySource(
        load_records(),
        clock,
        started_at_s,
        session_s=settings.replay_session_s,
        ticks_per_session=settings.replay_ticks,
        seed=settings.replay_seed,
    )


def _simulated(settings: Settings, clock: Clock, started_at_s: float) -> Source:
    from infra.sources.simulated.source import SimulatedSource

    return SimulatedSource(
        clock,
        started_at_s,
        symbols=settings.simulated_symbols,
        ticks_per_s=settings.simulated_ticks_per_s,
        seed=settings.simulated_seed,
        faults=settings.simulated_faults,
    )


def _yahoo(settings: Settings, clock: Clock, _: float) -> Source:
    from infra.sources.budget import Budget
    from infra.sources.yahoo.source import YahooSource

    per_s, at_once = settings.yahoo_requests_per_s, settings.yahoo_at_once
    return YahooSource(
        clock,
        Budget("yahoo", clock, per_s, at_once, random.Random()),
        url=settings.yahoo_url,
        stream_url=settings.yahoo_stream_url,
        poll_s=settings.yahoo_poll_s,
        cache_dir=settings.data_dir / "cache" / "yfinance",
    )


def _recorded(settings: Settings, clock: Clock, started_at_s: float) -> Source:
    from infra.sources.recorded.source import RecordedSource

    assert settings.recording is not None  # or it would not be this source
    return RecordedSource(clock, started_at_s, settings.recording, settings.recording_speed)


SOURCES: dict[str, Factory] = {
    "recording": _recorded,
    "replay": _replay,
    "simulated": _simulated,
    "yahoo": _yahoo,
}


def build_source(settings: Settings, clock: Clock, started_at_s: float) -> Source:
    """Return the source, or the chain of live ones, that the settings name.

    `started_at_s` (Unix seconds) is when it first started, not when this process did: a source
    that plays forward goes on from there.
    """
    names = settings.source_name.split(",")
    chain = [SOURCES[name](settings, clock, started_at_s) for name in names]
    if not chain[0].is_open:
        return chain[0]
    from infra.sources.steady import Limits, SteadySource

    limits = Limits(
        quote_fresh_s=settings.quote_fresh_s,
        quote_stale_s=settings.quote_stale_s,
        history_stale_s=settings.history_stale_s,
        other_stale_s=settings.other_stale_s,
    )
    return SteadySource(chain, clock, limits)
