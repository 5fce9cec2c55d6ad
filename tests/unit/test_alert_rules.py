"""Price alerts: what each rule holds a price against, and when it comes again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.alerts.price_alerts import LastFired, PriceAlerts
from actors.alerts.rules import RULES, Reference
from actors.alerts.window import PriceWindow
from infra.universe import Thresholds

LIMITS = Thresholds(3.0, -3.0, -5.0)
REFERENCE = Reference("2026-03-03", 100.0, 104.0, 96.0, 120.0, 80.0)
OPENED = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)
DAY_S = 86_400.0


def book(reference: Reference | None = REFERENCE) -> PriceAlerts:
    made = PriceAlerts(
        lambda _: LIMITS, 5.0, 300.0, lambda iso: datetime.fromisoformat(iso).timestamp()
    )
    if reference is not None:
        made.hold("AAPL", reference)
    return made


def update(price: float, after_s: float = 0.0, **more: Any) -> dict[str, Any]:
    return {
        "type": "price_update",
        "symbol": "AAPL",
        "current_price": price,
        "previous_close": 100.0,
        "session": "2026-03-04",
        "timestamp": (OPENED + timedelta(seconds=after_s)).isoformat(),
        "session_part": "regular",
        "stale": False,
        "source": "test",
        "synthetic": False,
    } | more


def kinds(made: PriceAlerts, *prices: dict[str, Any], now_s: float = 0.0) -> list[str]:
    return [due.found.alert_type for price in prices for due in made.on_price(price, now_s)]


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (115.0, ["price_rise", "break_prev_high"]),
        (103.0, ["price_rise", "drop_from_high"]),
        (102.99, ["drop_from_high"]),
        (114.0, ["price_rise", "drop_from_high", "break_prev_high"]),
        (97.0, ["price_drop", "drop_from_high"]),
        (95.0, ["price_drop", "drop_from_high", "break_prev_low"]),
        (121.0, ["price_rise", "new_high", "break_prev_high"]),
        (79.0, ["price_drop", "new_low", "drop_from_high", "break_prev_low"]),
        (120.0, ["price_rise", "break_prev_high"]),  # as high as ever is no new high
    ],
)
def test_what_a_price_is_worth(price: float, expected: list[str]) -> None:
    assert kinds(book(), update(price)) == expected


def test_what_an_alert_says() -> None:
    (rise, _) = book().on_price(update(115.0), 7.0)

    said = rise.found.message(rise.update["symbol"], rise.update["current_price"])
    assert said == "AAPL at 115.00: +15.00 % from the previous close of 100.00"
    assert (rise.found.base, rise.found.threshold, rise.found.severity) == (100.0, 3.0, "info")
    assert rise.found.percent == pytest.approx(15.0)
    drop = book().on_price(update(95.0), 7.0)[0]
    assert (drop.found.alert_type, drop.found.threshold) == ("price_drop", 3.0)
    assert drop.found.severity == "warning"


def test_a_surge_is_against_the_price_of_five_minutes_ago() -> None:
    made = book(None)
    quiet: dict[str, Any] = {"previous_close": None}
    assert kinds(made, update(100.0, **quiet), update(106.0, 299.0, **quiet)) == []
    (surge,) = made.on_price(update(106.0, 301.0, **quiet), 0.0)
    assert (surge.found.alert_type, surge.found.base) == ("surge", 100.0)
    assert surge.found.severity == "medium"
    (plunge,) = made.on_price(update(90.0, 900.0, **quiet), 0.0)
    assert (plunge.found.alert_type, plunge.found.severity) == ("plunge", "high")


def test_each_comes_again_after_its_cool_down_only() -> None:
    made = book()
    assert kinds(made, update(115.0), update(116.0)) == ["price_rise", "break_prev_high"]
    assert kinds(made, update(115.0), now_s=DAY_S - 1) == []
    assert kinds(made, update(115.0), now_s=DAY_S) == ["price_rise", "break_prev_high"]


def test_a_new_high_comes_once_a_session_however_long_it_is() -> None:
    made = book()
    assert "new_high" in kinds(made, update(121.0))
    assert "new_high" not in kinds(made, update(125.0), now_s=DAY_S)
    assert "new_high" in kinds(made, update(126.0, session="2026-03-05"), now_s=DAY_S)
    assert "new_high" not in kinds(made, update(127.0, session="2026-03-06"), now_s=DAY_S + 60)


def test_what_the_store_knows_is_not_given_again() -> None:
    made = book()
    made.remember([(("AAPL", "price_rise"), LastFired(100.0, "2026-03-04"))])
    assert kinds(made, update(115.0), now_s=200.0) == ["break_prev_high"]


def test_what_the_store_did_not_take_is_given_again() -> None:
    made = book()
    due = made.on_price(update(115.0), 0.0)
    made.undo(due[0])
    assert kinds(made, update(115.0), now_s=1.0) == ["price_rise"]


def test_it_is_given_again_a_cool_down_after_the_store_says_that_it_was() -> None:
    made = book()
    made.on_price(update(115.0), 0.0)
    made.remember([(("AAPL", "price_rise"), LastFired(1.0 - DAY_S, "2026-03-03"))])
    assert kinds(made, update(115.0), now_s=0.9) == []
    assert kinds(made, update(115.0), now_s=1.0) == ["price_rise"]


def test_stale_and_extended_prices_give_nothing() -> None:
    made = book()
    assert kinds(made, update(150.0, stale=True), update(150.0, session_part="pre")) == []


@pytest.mark.parametrize(
    "reference",
    [
        Reference("2026-03-04", 100.0, 104.0, 96.0, 120.0, 80.0),  # of the price's own session
        Reference("2026-03-02", 97.0, 104.0, 96.0, 120.0, 80.0),  # of one session too early
        None,
    ],
)
def test_references_of_another_session_do_not_count(reference: Reference | None) -> None:
    made = book(reference)
    assert made.needs(update(121.0))
    assert not book().needs(update(121.0))
    assert kinds(made, update(121.0)) == ["price_rise"]


def test_a_split_forgets_what_was_on_the_old_scale() -> None:
    made = book()
    made.on_price(update(100.0), 0.0)
    made.let_go("AAPL")
    assert kinds(made, update(50.0, 400.0, previous_close=50.0), now_s=400.0) == []


@given(st.lists(st.tuples(st.floats(0.0, 50.0), st.floats(1.0, 100.0)), max_size=60))
def test_a_window_gives_the_price_that_a_list_of_all_would(
    steps: list[tuple[float, float]],
) -> None:
    window, at_s, kept = PriceWindow(100.0), 0.0, list[tuple[float, float]]()
    for step_s, price in steps:
        at_s += step_s
        old = [p for t, p in kept if t <= at_s - 100.0]
        assert window.base(at_s, price) == (old[-1] if old else None)
        if not kept or at_s - kept[-1][0] >= 1.0:
            kept.append((at_s, price))


def test_times_that_go_back_begin_anew() -> None:
    window = PriceWindow(100.0)
    window.base(1_000.0, 5.0)
    assert window.base(500.0, 7.0) is None
    assert window.base(601.0, 8.0) == 7.0
    window.clear()
    assert window.base(702.0, 9.0) is None


def test_every_rule_has_a_cool_down() -> None:
    assert {rule.cool_down_s for rule in RULES.values()} == {3_600.0, 21_600.0, 86_400.0}


def test_a_new_run_finds_nothing_given() -> None:
    made = book()
    assert kinds(made, update(115.0)) == ["price_rise", "break_prev_high"]
    assert kinds(made, update(115.0), now_s=60.0) == []
    made.start_over()
    made.hold("AAPL", REFERENCE)
    assert kinds(made, update(115.0), now_s=60.0) == ["price_rise", "break_prev_high"]
