"""Recordings for tests: made of a simulated market, in no time."""

from __future__ import annotations

from pathlib import Path

from actors.feed.core import FeedCore
from infra.clock import FakeClock
from infra.sources.base import Event, VersionChanged, Wanted
from infra.sources.recorded.recording import Header, RecordingWriter
from infra.sources.simulated.source import SimulatedSource

STARTED_AT_S = 1_700_000_000.0


async def make_recording(path: Path, seconds: int = 150, faults: str = "") -> list[list[Event]]:
    """Write `seconds` of three symbols at a tick a second; return the events second by second."""
    clock = FakeClock(STARTED_AT_S)
    source = SimulatedSource(clock, STARTED_AT_S, symbols=3, history_days=5, faults=faults)
    core = FeedCore(source.name)
    told: list[list[Event]] = []
    symbols = source.symbols()
    header = Header(source.name, True, int(STARTED_AT_S * 1e9), symbols)
    with RecordingWriter(path, header) as writer:
        for symbol in symbols:
            writer.describe(await source.info(symbol), await source.actions(symbol))
            for interval in ("1d", "1m"):
                writer.hold(0.0, await source.history(symbol, interval))
        stream = source.stream(Wanted(symbols))
        first = list(await anext(stream))
        writer.keep(0.0, core.messages(first))
        for second in range(1, seconds + 1):
            clock.advance(1.0)
            events = list(await anext(stream))
            told.append(events)
            for event in events:
                if isinstance(event, VersionChanged):
                    writer.hold(float(second), await source.history(event.symbol))
            writer.keep(float(second), core.messages(events))
    return told
