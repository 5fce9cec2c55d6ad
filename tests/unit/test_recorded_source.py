"""A recording plays what was recorded: in order, at its time, whole up to where it was cut."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from infra.clock import FakeClock
from infra.errors import ConfigError
from infra.settings import load_settings
from infra.sources.base import ActionHappened, Event, Tick, VersionChanged, Wanted
from infra.sources.recorded.recording import Happened, read_header, read_recording
from infra.sources.recorded.source import RecordedSource
from tests.recordings import make_recording

START_S = 1_750_000_000.0


@pytest.fixture
async def told(tmp_path: Path) -> list[list[Event]]:
    return await make_recording(tmp_path / "r.gz", seconds=90)


def prices(events: list[Event] | tuple[Event, ...]) -> list[tuple[str, float, int]]:
    """Return the ticks among events."""
    return [
        (e.quote.symbol, e.quote.price, e.quote.traded_at_ns)
        for e in events
        if isinstance(e, Tick)
    ]


async def played(source: RecordedSource, clock: FakeClock, until_s: float) -> list[Event]:
    """Return what comes until an instant of the clock, first batch not included."""
    events: list[Event] = []
    stream = source.stream(Wanted())
    await anext(stream)

    async def take() -> None:
        async for batch in stream:
            events.extend(batch)

    work = asyncio.ensure_future(take())
    while clock.time_s() < until_s:
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(0.5)
    for _ in range(5):
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return events


@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_it_plays_every_tick_at_its_time(
    tmp_path: Path, told: list[list[Event]], speed: float
) -> None:
    clock = FakeClock(START_S)
    source = RecordedSource(clock, START_S, tmp_path / "r.gz", speed)

    events = await played(source, clock, START_S + 40 / speed)

    assert prices(events) == [tick for second in told[:40] for tick in prices(second)]


async def test_as_fast_as_it_goes_all_come_without_any_time(
    tmp_path: Path, told: list[list[Event]]
) -> None:
    source = RecordedSource(FakeClock(START_S), START_S, tmp_path / "r.gz", speed=0)
    stream = source.stream(Wanted())
    await anext(stream)

    events = [event for _ in told for event in await anext(stream)]

    assert prices(events) == [tick for second in told for tick in prices(second)]


async def test_one_that_starts_later_stands_where_it_should(
    tmp_path: Path, told: list[list[Event]]
) -> None:
    source = RecordedSource(FakeClock(START_S + 25), START_S, tmp_path / "r.gz")

    first = await anext(source.stream(Wanted()))

    assert [type(event) for event in first[:3]] == [VersionChanged] * 3
    assert prices(first) == prices(told[24])


async def test_the_bars_go_on_with_the_ticks(tmp_path: Path, told: list[list[Event]]) -> None:
    clock = FakeClock(START_S)
    source = RecordedSource(clock, START_S, tmp_path / "r.gz")
    before = await source.history("SIM0001", "1m")

    clock.advance(90.0)

    day, minutes = await source.history("SIM0001"), await source.history("SIM0001", "1m")
    last = prices(told[89])[0][1]
    assert day.open_bar.close[0] == last
    # The recording starts within a minute: one more is over 90 seconds later
    added = minutes.bars[minutes.bars.opened_at_ns > before.bars.opened_at_ns[-1]]
    ticks = [p for second in told for p in prices(second) if p[0] == "SIM0001"]
    opened = int(added.opened_at_ns[-1])
    within = [price for _, price, at in ticks if opened <= at < opened + 60 * 10**9]
    assert (added.high[-1], added.low[-1]) == (max(within), min(within))
    assert minutes.data_version != before.data_version


async def test_a_split_is_played_with_the_version_of_the_bars_after_it(tmp_path: Path) -> None:
    await make_recording(tmp_path / "r.gz", seconds=60, faults="split:SIM0002@30x2")
    clock = FakeClock(START_S)
    source = RecordedSource(clock, START_S, tmp_path / "r.gz")

    events = await played(source, clock, START_S + 40)

    (action,) = (e.action for e in events if isinstance(e, ActionHappened))
    assert (action.symbol, action.value) == ("SIM0002", 2.0)
    history = await source.history("SIM0002")
    assert history.data_version == next(
        e.data_version for e in events if isinstance(e, VersionChanged) and e.symbol == "SIM0002"
    )
    assert set(history.price_factor.tolist()) == {0.5}


async def test_a_file_that_was_cut_plays_up_to_there(
    tmp_path: Path, told: list[list[Event]]
) -> None:
    whole = (tmp_path / "r.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[:-2_000])

    lines = [x for x in read_recording(tmp_path / "cut.gz") if isinstance(x, Happened)]

    assert 0 < len(lines) < len(told)
    assert prices(lines[-1].events) == prices(told[len(lines) - 2])


@pytest.mark.parametrize("content", [b"", b"not gzip", b'{"format": 99}'])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no recording"):
        read_header(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        read_header(tmp_path / "none")


def test_a_recording_is_no_part_of_a_chain() -> None:
    with pytest.raises(ConfigError, match="no source"):
        load_settings(source="yahoo,replay:/tmp/x")


@pytest.mark.parametrize(
    "content",
    [b"\0" * 40 * 2**20, b"[1]\n", b'{"format": 1}\n', b'{"format": 1, "symbols": 3}\n'],
)
def test_what_unpacks_to_something_else_is_refused_in_words(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "other.rec"
    file.write_bytes(gzip.compress(content))

    with pytest.raises(ValueError, match="is no recording of `finstage record`"):
        read_header(file)
