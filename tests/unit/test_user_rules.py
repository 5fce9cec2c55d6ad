"""Rules of users: they fire when their condition becomes true, and are armed again as they say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from actors.alerts.user_rules import AGAIN, ONCE, UserRule, UserRules
from actors.indicators.client import LiveWant
from actors.indicators.language import parse_live_condition
from infra.db.alert_rules import StoredRule
from tests.unit.test_alert_rules import update

LONG_AGO = datetime.fromtimestamp(-3_600.0, UTC)


def rule(text: str, **more: Any) -> UserRule:
    values: dict[str, Any] = {
        "id": "r1",
        "name": "mine",
        "symbols": ("AAPL",),
        "expression": text,
        "interval": "1d",
        "repeat": AGAIN,
        "cooldown_s": 0.0,
        "hysteresis_pct": 0.0,
        "severity": "info",
        "targets": (),
        "secret": "",
        "enabled": True,
        "created_at": LONG_AGO,
        "updated_at": LONG_AGO,
    }
    return UserRule(StoredRule(**(values | more)), parse_live_condition(text))


def rules(*made: UserRule) -> UserRules:
    found = UserRules()
    for one in made:
        found.put(one)
    return found


def quote(price: float, **more: Any) -> dict[str, Any]:
    fields = {"open": 100.0, "high": 101.0, "low": 99.0, "volume": 5, "change_amount": 1.0,
              "change_percent": price - 100.0}  # fmt: skip
    return update(price, **(fields | more))


def fires(made: UserRules, *prices: float, now_s: float = 0.0) -> list[bool]:
    return [bool(made.on_price(quote(price), now_s)) for price in prices]


def test_it_fires_when_the_condition_becomes_true() -> None:
    made = rules(rule("price > 105"))
    assert fires(made, 104, 106, 107, 105, 106) == [False, True, False, False, True]


def test_one_that_holds_from_the_start_fires_at_once() -> None:
    assert fires(rules(rule("price > 105")), 106) == [True]


def test_hysteresis_keeps_it_still_around_the_edge() -> None:
    made = rules(rule("price > 100", hysteresis_pct=2.0))
    assert fires(made, 101, 99, 101, 98.5, 101, 98, 101) == [
        True, False, False, False, False, False, True,
    ]  # fmt: skip


def test_it_waits_for_its_cool_down() -> None:
    made = rules(rule("price > 105", cooldown_s=60.0))
    assert fires(made, 106, 104) == [True, False]
    assert fires(made, 106, now_s=59.0) == [False]
    assert fires(made, 106, now_s=60.0) == [True]


def test_what_the_store_knows_of_it_counts() -> None:
    made = rules(rule("price > 105", cooldown_s=60.0))
    made.remember("r1", "AAPL", fired_s=-60.0, is_armed=False)
    assert fires(made, 106, 104, 106) == [False, False, True]
    assert made.rearmed == set()
    assert fires(made, 104) == [False]
    assert made.rearmed == {("r1", "AAPL")}
    made.remember("r1", "NONE", 0.0, True)  # of no rule


def test_one_that_was_changed_since_it_fired_is_armed_but_waits() -> None:
    text = "price > 105"
    made = rules(rule(text, cooldown_s=60.0, updated_at=datetime.fromtimestamp(10.0, UTC)))
    made.remember("r1", "AAPL", fired_s=9.0, is_armed=False)
    assert fires(made, 106, now_s=68.9) == [False]
    assert fires(made, 106, now_s=69.0) == [True]


def test_one_that_the_store_refused_waits_and_then_fires_without_a_change() -> None:
    one = rule("price > 105", cooldown_s=60.0)
    made = rules(one)
    assert fires(made, 106, now_s=40.0) == [True]
    made.on_refused(one, "AAPL", fired_s=0.0)
    assert fires(made, 106, 106, now_s=59.0) == [False, False]
    assert fires(made, 106, now_s=60.0) == [True]


def test_what_came_of_one_as_it_was_says_nothing_of_it_as_it_is() -> None:
    before = rule("price > 105", repeat=ONCE)
    changed_at = datetime.fromtimestamp(9.0, UTC)
    made = rules(rule("price > 105", repeat=ONCE, cooldown_s=60.0, updated_at=changed_at))
    assert fires(made, 106, now_s=10.0) == [True]
    made.on_refused(before, "AAPL", fired_s=-100.0)
    made.on_given(before)
    assert len(made) == 1
    assert fires(made, 106, now_s=11.0) == [False]


@pytest.mark.parametrize(("repeat", "left"), [(ONCE, 0), (AGAIN, 1)])
def test_one_that_fires_once_is_over_when_its_alert_is_given(repeat: str, left: int) -> None:
    one = rule("price > 105", repeat=repeat)
    made = rules(one)
    assert fires(made, 106) == [True]
    made.on_given(one)
    assert len(made) == left


def live(price: float, rsi: float | None, interval: str = "1d") -> dict[str, Any]:
    values = {"rsi(14)": {"rsi": rsi}}
    return {"symbol": "AAPL", "interval": interval, "values": values, "bar": {"close": price}}


def test_one_with_indicators_is_asked_when_their_values_come() -> None:
    made = rules(rule("price > 105 and rsi(14) < 30"))
    assert made.wants == [LiveWant("AAPL", "1d", "rsi(14)")]
    assert not made.on_live(live(106, 20.0), 0.0)  # before any price
    assert fires(made, 106) == [False]
    assert not made.on_live(live(106, None), 0.0)
    assert not made.on_live(live(106, 20.0, "1m"), 0.0)
    (fired,) = made.on_live(live(106, 20.0), 0.0)
    assert (fired.rule.stored.id, fired.symbol, fired.values["rsi(14).rsi"]) == (
        "r1",
        "AAPL",
        20.0,
    )


def test_a_crossing_is_between_two_prices() -> None:
    made = rules(rule("price crossed_above 105"))
    assert fires(made, 106, 104, 106, 107) == [False, False, True, False]


def test_each_symbol_fires_by_itself_and_what_is_removed_does_not() -> None:
    made = rules(rule("price > 105", symbols=("AAPL", "IBM")))
    assert fires(made, 106) == [True]
    assert made.on_price(quote(106, symbol="IBM"), 0.0)
    assert set(made.symbols) == {"AAPL", "IBM"}
    made.remove("r1")
    made.remove("r1")
    assert (made.symbols, len(made)) == ((), 0)
    assert fires(made, 104, 106) == [False, False]


@pytest.mark.parametrize("more", [{"stale": True}, {"session_part": "post"}])
def test_stale_and_extended_prices_do_not_count(more: dict[str, Any]) -> None:
    made = rules(rule("price > 105"))
    assert not made.on_price(quote(106, **more), 0.0)


def test_a_new_run_arms_every_rule_without_a_cool_down() -> None:
    made = rules(rule("price > 100"))
    assert fires(made, 101.0, 101.0) == [True, False]
    made.start_over()
    assert fires(made, 101.0, now_s=1.0) == [True]
