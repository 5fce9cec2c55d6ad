"""The alert engine, in this process: what reaches the hub, and what does not after a restart."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

import actors.alerts.actor as module
import actors.runtime as runtime
from actors.alerts.actor import AlertActor
from actors.alerts.firing import Pending, give
from actors.hub.core import HubCore
from actors.indicators.language import parse_live_condition
from infra.db.alert_rules import StoredRule
from infra.db.alerts import Alert, AlertState
from infra.db.store import Limit
from infra.db.unit import Unit
from infra.errors import StoreBusy
from infra.messages import ENDED, TECHNICAL, Batch, Kind, Message, Position, Snapshot
from infra.sources.runs import Run
from tests.hub_messages import SAMPLES, price
from tests.service import wait_until
from tests.settings import made_settings

AT = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)
RULE = StoredRule(
    id="r1", name="cheap", symbols=("AAPL",), expression="price > 100 and rsi(14) < 30",
    interval="1d", repeat="again", cooldown_s=0.0, hysteresis_pct=0.0, severity="info", targets=(),
    secret="", enabled=True, created_at=AT, updated_at=AT,
)  # fmt: skip


class Hub:
    """The hub's own core, asked directly; `told` are the alerts that it was told of."""

    def __init__(self) -> None:
        self.core = HubCore("e1", 10**6, 600.0, lambda: 0.0)
        self.told: list[int] = []
        self.read_to: Position | None = None
        self.is_there = asyncio.Event()
        self.is_there.set()

    async def ping(self) -> int:
        return 1

    async def publish(self, messages: Sequence[Message]) -> Position:
        alerts = [m for m in messages if m.kind is Kind.ALERTS]
        self.told += [orjson.loads(m.payload)["alert_id"] for m in alerts]
        return self.core.publish(messages)

    async def read(
        self, reader: str, position: Position, timeout_s: float, patience: int = 1
    ) -> Batch:
        self.read_to = position
        await asyncio.sleep(0.01)
        return self.core.after(position)

    async def snapshot(self, history_bytes: int = 0) -> Snapshot:
        await self.is_there.wait()
        return self.core.snapshot(history_bytes)


class Others:
    """Feed, indicators and cache, as far as the alert engine asks them."""

    async def ping(self) -> int:
        return 1

    async def references(self, symbols: Sequence[str], *_: Any) -> dict[str, Any]:
        return {}

    async def want(self, symbols: Sequence[str]) -> dict[str, Any]:
        return {}

    async def want_live(self, wants: Sequence[Any]) -> dict[Any, Any]:
        return {}

    async def live_condition(self, text: str) -> Any:
        return parse_live_condition(text)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(module, "HubClient", lambda _: made)
    for name in ("FeedClient", "IndicatorClient", "TelemetryClient"):
        monkeypatch.setattr(module, name, lambda *_: Others())

    async def nothing(*_: Any) -> None:
        return

    monkeypatch.setattr(module, "report_metrics", nothing)
    monkeypatch.setattr(runtime, "watch_process", nothing)
    for name in ("setup_logs", "steady_interpreter"):
        monkeypatch.setattr(runtime, name, lambda *_: None)
    return made


async def holds(what: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, what, 5, "the alert engine")


async def end(actor: AlertActor) -> None:
    tasks = list(actor._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await actor._store.close()


async def test_it_outlives_the_end_of_live_values_and_tells_nothing_again(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    settings = made_settings(data_dir=tmp_path, source="replay")
    first = AlertActor(settings)
    await first._store.migrate()
    await first._changes.add(RULE, 10)
    live = SAMPLES[Kind.TECHNICAL]

    await hub.publish([Message(TECHNICAL + "META:1d", ENDED), Message("nobody:knows", b"{")])
    await hub.publish([price(104.0), live])
    await holds(lambda: hub.told)
    told = list(hub.told)
    await end(first)

    hub.is_there.clear()
    second = AlertActor(settings)
    await second._tell()
    assert hub.told == told  # it waits to hear what this hub was told
    hub.is_there.set()
    await holds(lambda: second._intake.told)
    await hub.publish([price(90.0), price(104.5, "IBM"), SAMPLES[Kind.ENDED]])
    await holds(lambda: len(hub.told) > len(told))
    await end(second)

    assert ends == []
    assert hub.told == sorted(set(hub.told))


def pending(number: int) -> Pending:
    alert = Alert(
        "price_rise", f"S{number}", "price_rise", "prev_close", 100.0, 104.0, 3.0, 4.0, "info",
        "rose", "replay", False, AT, datetime.now(UTC),
    )  # fmt: skip
    return Pending(alert, "2026-03-04", timedelta(days=1))


async def store_has(actor: AlertActor, rule_id: str, armed: list[bool]) -> None:
    """Wait until the store knows for which symbols a rule is armed."""
    found: list[bool] = []
    for _ in range(500):
        states = await actor._store.read(lambda unit: unit.alerts.states("replay"))
        found = [state.is_armed for state in states if state.rule_id == rule_id]
        if found == armed:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{rule_id} is armed for {found}")


async def test_a_store_that_takes_few_alerts_in_its_time_gets_them_all_in_parts(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", Limit(60.0, 0.0))  # one try, and no other
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    monkeypatch.setattr(module, "_AT_ONCE", 20)
    actor = AlertActor(made_settings(data_dir=tmp_path, source="replay"))
    await actor._store.migrate()
    most, done = 3, Counter[Unit]()

    async def slow(unit: Unit, one: Pending, run: Run) -> int | AlertState:
        done[unit] += 1
        if done[unit] > most:
            raise StoreBusy("the store is busy: no answer within its time")
        return await give(unit, one, run)

    monkeypatch.setattr(module, "give", slow)
    actor._intake.add([pending(number) for number in range(30)])
    await holds(lambda: len(hub.told) == 30)

    most = 10_000  # it is quick again: parts grow
    actor._intake.add([pending(number) for number in range(30, 130)])
    await holds(lambda: len(hub.told) == 130)
    assert max(done.values()) == 20
    actor._rules.rearmed |= {("price_rise", f"S{number}") for number in range(130)}
    actor._intake.work.set()
    await store_has(actor, "price_rise", [True] * 130)
    await end(actor)

    assert hub.told == sorted(set(hub.told))


PRICE_RULE = replace(RULE, expression="price > 100", repeat="once", cooldown_s=3_600.0)


async def started(tmp_path: Path, rule: StoredRule) -> AlertActor:
    """Return an engine that follows a rule."""
    actor = AlertActor(made_settings(data_dir=tmp_path, source="replay"))
    await actor._store.migrate()
    await actor._changes.add(rule, 10)
    await holds(lambda: actor._intake.epoch)
    return actor


async def show(hub: Hub, *values: float) -> None:
    """Let the engine have prices of AAPL, and take them."""
    for value in values:
        await hub.publish([price(value)])
        await holds(lambda: hub.read_to == hub.core.position)


async def stored(actor: AlertActor) -> StoredRule | None:
    return await actor._store.read(lambda unit: unit.alert_rules.get("r1"))


async def given(actor: AlertActor) -> list[Alert]:
    """Return the alerts of the rule, after all that waits."""
    actor._intake.work.set()
    await holds(lambda: not actor._intake.waiting and not actor._intake.work.is_set())
    async with actor._giving:
        found = await actor._store.read(lambda unit: unit.alerts.after(0, 100))
    return [alert for _, alert in found if alert.rule_id == "r1"]


def losing(actor: AlertActor, monkeypatch: pytest.MonkeyPatch, what: str) -> list[int]:
    """Lose the answers to writes of a name; return how many are to be lost yet, to be set."""
    real, left = actor._store.write, [1]

    async def write(work: Any, **more: Any) -> Any:
        done = await real(work, **more)
        if what in work.__qualname__ and left[0]:
            left[0] -= 1
            raise StoreBusy("the store is busy: no answer within 4.5 s, try again")
        return done

    monkeypatch.setattr(actor._store, "write", write)
    return left


@pytest.mark.parametrize("cooldown_s", [0.0, 3_600.0])
async def test_an_alert_whose_answer_from_the_store_was_lost_is_given_once(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, cooldown_s: float
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    actor = await started(tmp_path, replace(PRICE_RULE, cooldown_s=cooldown_s))
    left = losing(actor, monkeypatch, "_give_part")
    await show(hub, 104.0)
    await holds(lambda: not left[0] and not actor._intake.waiting)
    for value in (99.0, 105.0):  # once means once
        await show(hub, value)
        count = len(await given(actor))
    rule = await stored(actor)
    followed = len(actor._rules)
    await end(actor)

    assert rule is not None
    assert (count, rule.enabled, followed) == (1, False, 0)
    assert hub.told == sorted(set(hub.told))


async def test_an_alert_of_a_rule_that_was_changed_meanwhile_does_not_end_it(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    actor = await started(tmp_path, PRICE_RULE)
    async with actor._giving:
        await show(hub, 104.0)
        later = datetime.now(UTC)
        again = replace(PRICE_RULE, expression="price > 200", updated_at=later, repeat="again")
        await actor._changes.change(again)
    count = len(await given(actor))
    rule = await stored(actor)
    followed = len(actor._rules)
    await end(actor)

    assert (count, rule, followed) == (1, again, 1)


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_rule_enabled_again_in_its_cool_down_fires_after_it(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, is_restarted: bool
) -> None:
    actor = await started(tmp_path, PRICE_RULE)
    await hub.publish([price(104.0)])
    await holds(lambda: not len(actor._rules))
    await actor._changes.enable("r1", True, datetime.now(UTC))
    if is_restarted:
        await end(actor)
        actor = AlertActor(actor.settings)
        await holds(lambda: actor._intake.epoch)
    await show(hub, 105.0)
    counts = [len(await given(actor))]
    real = actor._clock.time_s
    monkeypatch.setattr(actor._clock, "time_s", lambda: real() + 3_600.0)
    await show(hub, 106.0)
    counts.append(len(await given(actor)))
    await end(actor)

    assert counts == [1, 2]


async def test_a_rule_armed_again_is_noted_without_another_alert(tmp_path: Path, hub: Hub) -> None:
    actor = await started(tmp_path, replace(PRICE_RULE, repeat="again", cooldown_s=0.0))
    await show(hub, 104.0, 99.0)
    await store_has(actor, "r1", [True])
    await end(actor)


@pytest.mark.parametrize(
    ("meanwhile", "is_armed"),
    [([105.0], False), ([105.0, 98.0], True)],
    ids=["fired", "fired and armed again"],
)
async def test_what_happens_while_the_store_hears_that_a_rule_is_armed_is_not_forgotten(
    tmp_path: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: list[float],
    is_armed: bool,
) -> None:
    actor = await started(tmp_path, replace(PRICE_RULE, repeat="again", cooldown_s=0.0))
    real, left = actor._store.write, list(meanwhile)

    async def write(work: Any, **more: Any) -> Any:
        if "_note_rearmed" in work.__qualname__ and left:
            await show(hub, *left)
            left.clear()
        return await real(work, **more)

    monkeypatch.setattr(actor._store, "write", write)
    await show(hub, 104.0, 99.0)
    await holds(lambda: not left and not actor._rules.rearmed)
    count = len(await given(actor))
    await store_has(actor, "r1", [is_armed])
    await end(actor)

    assert count == 2


@pytest.mark.parametrize("change", ["disable", "change", "remove", "add"])
@pytest.mark.parametrize("is_made", [True, False], ids=["made", "not made"])
async def test_a_change_whose_answer_was_lost_is_followed_if_the_store_has_it(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, change: str, is_made: bool
) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.02)
    actor = await started(tmp_path, PRICE_RULE)
    real, failed = actor._store.write, list[str]()

    async def write(work: Any, **more: Any) -> Any:
        if "RuleChanges" not in work.__qualname__ or len(failed) == 2:
            return await real(work, **more)
        if is_made and not failed:
            await real(work, **more)
        failed.append(work.__qualname__)
        raise StoreBusy("the store is busy: no answer within 4.5 s, try again")

    monkeypatch.setattr(actor._store, "write", write)
    now = datetime.now(UTC)
    other = replace(PRICE_RULE, id="r2", symbols=("IBM",), updated_at=now)
    changes: dict[str, Any] = {
        "disable": lambda: actor._changes.enable("r1", False, now),
        "change": lambda: actor._changes.change(replace(other, id="r1")),
        "remove": lambda: actor._changes.remove("r1"),
        "add": lambda: actor._changes.add(other, 10),
    }
    with pytest.raises(StoreBusy):
        await changes[change]()
    await holds(lambda: len(failed) == 2 and actor._changes._unsure is None)
    symbols = actor._rules.symbols
    kept = await actor._store.read(lambda unit: unit.alert_rules.enabled())
    await end(actor)

    made = {"disable": (), "change": ("IBM",), "remove": (), "add": ("AAPL", "IBM")}
    assert symbols == (made[change] if is_made else ("AAPL",))
    assert set(symbols) == {symbol for rule in kept for symbol in rule.symbols}


async def test_a_hub_that_restarted_is_told_all_again_whatever_came_there_first(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await started(tmp_path, RULE)
    actor._intake.add([pending(number) for number in range(5)])
    await holds(lambda: len(hub.told) == 5)
    before = list(hub.told)
    real = hub.publish

    async def publish(messages: Sequence[Message]) -> Position:
        if hub.core.epoch == "e1" and any(m.kind is Kind.ALERTS for m in messages):
            hub.core = HubCore("e2", 10**6, 600.0, lambda: 0.0)  # while it is tried again
            hub.told.clear()
        return await real(messages)

    monkeypatch.setattr(hub, "publish", publish)
    actor._intake.add([pending(9)])
    await holds(lambda: hub.core.epoch == "e2" and len(hub.told) >= 7)
    await end(actor)

    assert hub.told == [before[-1] + 1, *before, before[-1] + 1]


async def test_numbers_become_visible_in_their_order(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await started(tmp_path, RULE)
    under_way = most = 0

    async def slow(unit: Unit, one: Pending, run: Run) -> int | AlertState:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        found = await give(unit, one, run)
        under_way -= 1
        return found

    monkeypatch.setattr(module, "give", slow)
    quote = orjson.loads(price(110.0, "IBM").payload)
    actor._intake.add([pending(number) for number in range(3)])
    asked = [actor.check([quote | {"symbol": symbol}]) for symbol in ("IBM", "META")]
    count = sum(await asyncio.gather(*asked))
    await holds(lambda: len(hub.told) == 3 + count)
    await end(actor)

    assert count > 1
    assert most == 1


async def test_alerts_of_prices_that_were_handed_in_wait_for_the_store_too(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.02)
    actor = await started(tmp_path, RULE)
    real = actor._store.write

    async def away(*_: Any, **__: Any) -> None:
        raise StoreBusy("the store is busy: no answer within 60 s, try again")

    monkeypatch.setattr(actor._store, "write", away)
    quote = orjson.loads(price(110.0, "IBM").payload)
    with pytest.raises(StoreBusy):
        await actor.check([quote])
    monkeypatch.setattr(actor._store, "write", real)
    await holds(lambda: hub.told)
    again = await actor.check([quote])
    await end(actor)

    assert again == 0
    assert hub.told == sorted(set(hub.told))
