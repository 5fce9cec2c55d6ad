"""What the indicators' actor holds: the newest that it was told of, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import orjson
import pytest

from actors.indicators.actor import IndicatorActor
from actors.indicators.bar_store import BarStore
from actors.indicators.core import IndicatorCore
from actors.indicators.tables import LiveWant
from infra.bars import Bars, History
from infra.clock import FakeClock
from infra.errors import FinstageError, SourceMalformed, StoreBusy, SymbolUnknown
from infra.messages import DATA, SOURCE_DATA, Message
from infra.sources.base import Lane
from infra.sources.facts import SourceFacts
from tests.contract.test_live_indicators import random_bars

FACTS = SourceFacts("replay", True, ("1d",), is_open=False)


def history(symbol: str, version: str) -> History:
    ones = np.ones(60)
    bars = random_bars(sum(map(ord, symbol)), 60)
    return History(symbol, bars, Bars.empty(), ones, ones, version, 0.0, "replay")


class Feed:
    """Answers what it has when it is asked, after it was told what is new."""

    def __init__(self) -> None:
        self.answers: dict[str, History | FinstageError] = {}
        self.asked: list[tuple[str, ...]] = []
        self.before_answering: Callable[[], None] = lambda: None

    async def histories(
        self, symbols: Sequence[str], interval: str = "1d", lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, History | FinstageError]:
        self.asked.append(tuple(symbols))
        found = {s: self.answers[s] for s in symbols or self.answers}
        self.before_answering()
        return found


class Hub:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.told += [orjson.loads(m.payload) for m in messages if m.topic.startswith(DATA)]


class Indicators(IndicatorActor):
    """The actor without its process."""

    def __init__(self) -> None:
        self.settings = cast(Any, SimpleNamespace(live_sets=64, live_grace_s=60.0))
        self.feed, self.hub, self.clock = Feed(), Hub(), FakeClock(0.0)
        self._feed, self._hub = cast(Any, self.feed), cast(Any, self.hub)
        self._clock, self._facts = cast(Any, self.clock), FACTS
        self._bar_store = BarStore()
        self._core = IndicatorCore(self._bar_store)
        self._prices, self._versions, self._loaded_at_s = {}, {}, {}
        self._outdated, self._unsaid, self._heard_s = set(), False, 0.0
        self._tasks = set()
        self._work, self._loaded, self._compiled = (asyncio.Event() for _ in range(3))
        self._loaded.set()
        self._compiled.set()
        self._live = self._live_worker()

    def hear(self, symbol: str, version: str) -> None:
        """Take the news that a symbol has a new version."""
        body = {"type": "data_version", "symbol": symbol, "data_version": version}
        message = Message(SOURCE_DATA + symbol, orjson.dumps(body))
        self._on_message(message.kind, message)

    def held(self, symbol: str) -> str | None:
        found = self._bar_store.get(symbol)
        return None if found is None else found.data_version


@pytest.fixture
async def actor() -> Indicators:
    actor = Indicators()
    actor.feed.answers = {s: history(s, "v0") for s in ("AAPL", "IBM")}
    await actor._load(())
    return actor


async def test_news_that_comes_while_bars_are_fetched_is_not_lost(actor: Indicators) -> None:
    def newer() -> None:
        actor.feed.before_answering = lambda: None
        actor.feed.answers["IBM"] = history("IBM", "v2")
        actor.hear("IBM", "v2")

    actor.feed.answers["IBM"] = history("IBM", "v1")
    actor.feed.before_answering = newer
    actor.hear("IBM", "v1")

    await actor._catch_up()

    assert actor.held("IBM") == "v2"
    assert [told["data_version"] for told in actor.hub.told] == ["v1", "v2"]


@pytest.mark.parametrize(
    "error", [StoreBusy("locked"), SourceMalformed("html", "a page")], ids=["store", "source"]
)
async def test_bars_that_could_not_be_had_are_fetched_later(
    actor: Indicators, error: FinstageError
) -> None:
    actor.feed.answers["IBM"] = error
    actor.hear("IBM", "v1")
    await actor._catch_up()
    assert actor.held("IBM") == "v0"

    actor.feed.answers["IBM"] = history("IBM", "v1")
    await asyncio.sleep(0)
    actor.clock.advance(5.0)
    for _ in range(5):
        await asyncio.sleep(0)
    await actor._catch_up()

    assert actor.held("IBM") == "v1"


async def test_a_hub_that_is_met_while_bars_are_fetched_is_told_everything(
    actor: Indicators,
) -> None:
    def meet() -> None:
        actor._unsaid = True

    actor.feed.answers["IBM"] = history("IBM", "v1")
    actor.feed.before_answering = meet
    actor.hear("IBM", "v1")

    await actor._catch_up()

    assert [told["symbol"] for told in actor.hub.told][1:] == ["AAPL", "IBM"]


async def test_a_deleted_symbol_takes_no_live_values_from_the_others(actor: Indicators) -> None:
    assert await actor._live.want([LiveWant("AAPL"), LiveWant("IBM")]) == {}
    actor.feed.answers["IBM"] = SymbolUnknown("IBM")
    actor.hear("IBM", "gone")

    await actor._catch_up()

    assert await actor._live.want([LiveWant("AAPL", "1d", "ema(9)")]) == {}
    assert list(await actor._live.want([LiveWant("IBM")])) == [LiveWant("IBM")]
    assert actor.hub.told[-1]["data_version"] == "gone"


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_symbol_that_is_deleted_between_two_steps_of_a_screen_spoils_no_other(
    actor: Indicators, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("actors.indicators.slices.LONGEST_S", -1.0)  # every step lets others on
    screening = asyncio.ensure_future(actor.screen("close > sma(3) or close > 0", (), "1d", None))
    for _ in range(steps):
        await asyncio.sleep(0)
    await actor._forget("IBM")

    matches, errors = await screening

    assert matches[0].symbol == "AAPL"
    assert errors == {}
