"""Yahoo's answers as bars, quotes and ticks, row by row."""

from __future__ import annotations

import base64
import copy
import struct
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.bars import Quote
from infra.errors import SourceMalformed, SymbolUnknown
from infra.periods import day_ns
from infra.sources.yahoo.parse import Chart, parse_chart, parse_quotes, quote_infos
from infra.sources.yahoo.pricing import decode_message, pricing_data_class

NEW_YORK = ZoneInfo("America/New_York")
DAYS = [date(2024, 6, 5), date(2024, 6, 6), date(2024, 6, 7), date(2024, 6, 10)]


def at_s(day: date, hour: int = 9, minute: int = 30, zone: ZoneInfo = NEW_YORK) -> int:
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp())


MIDDAY_S = at_s(DAYS[3], 12, 0)
EVENING_S = at_s(DAYS[3], 20, 0)


def chart_result(**meta: Any) -> dict[str, Any]:
    """Four daily rows; a 10:1 split on the last day, a dividend of 1 % on the third."""
    session = {"start": at_s(DAYS[3]), "end": at_s(DAYS[3], 16, 0)}
    closes = [100.0, 101.0, 102.0, 103.0]
    return {
        "meta": {
            "currency": "USD",
            "symbol": "X",
            "exchangeName": "NMS",
            "instrumentType": "EQUITY",
            "exchangeTimezoneName": "America/New_York",
            "longName": "X Corporation",
            "shortName": "X",
            "regularMarketTime": MIDDAY_S,
            "dataGranularity": "1d",
            "currentTradingPeriod": {"regular": session},
            **meta,
        },
        "timestamp": [at_s(day) for day in DAYS],
        "events": {
            "splits": {
                "s": {"date": at_s(DAYS[3]), "numerator": 10.0, "denominator": 1.0},
            },
            "dividends": {"d": {"date": at_s(DAYS[2]), "amount": 1.01}},
        },
        "indicators": {
            "quote": [
                {
                    "open": [close - 0.5 for close in closes],
                    "high": [close + 1.0 for close in closes],
                    "low": [close - 1.0 for close in closes],
                    "close": closes,
                    "volume": [1_000, 2_000, 3_000, 4_000],
                }
            ],
            "adjclose": [{"adjclose": [99.0, 99.99, 102.0, 103.0]}],
        },
    }


def minute_result(stamps: list[int], closes: list[float], **meta: Any) -> dict[str, Any]:
    result = chart_result(dataGranularity="1m", **meta)
    result["timestamp"] = stamps
    prices = {name: list(closes) for name in ("open", "high", "low", "close")}
    result["indicators"] = {"quote": [prices | {"volume": [100] * len(stamps)}]}
    result["events"] = {}
    return result


def body(result: Any) -> bytes:
    return orjson.dumps({"chart": {"result": [result], "error": None}})


def parsed(result: Any, now_s: float = EVENING_S) -> Chart:
    return parse_chart(body(result), "X", now_s)


def test_prices_and_volume_are_as_traded_before_a_split() -> None:
    history = parsed(chart_result(regularMarketTime=at_s(DAYS[3], 16, 0))).history

    assert history.bars.close.tolist() == [1000.0, 1010.0, 1020.0, 103.0]
    assert history.bars.open.tolist() == [995.0, 1005.0, 1015.0, 102.5]
    assert history.bars.volume.tolist() == [100, 200, 300, 4_000]
    assert history.volume_factor.tolist() == [10.0, 10.0, 10.0, 1.0]
    assert history.price_factor == pytest.approx([0.099, 0.099, 0.1, 1.0], rel=1e-12)
    assert history.bars.opened_at_ns.tolist() == [day_ns(day) for day in DAYS]
    assert history.bars.volume.dtype == np.int64


def test_the_session_under_way_is_the_open_bar() -> None:
    history = parsed(chart_result(), MIDDAY_S).history

    assert len(history.bars) == len(history.price_factor) == len(history.volume_factor) == 3
    assert history.open_bar.close.tolist() == [103.0]
    assert history.open_bar.opened_at_ns.tolist() == [day_ns(DAYS[3])]


def test_a_split_today_has_changed_scale_before_the_first_row_of_today() -> None:
    result = chart_result()
    for column in (result["timestamp"], *result["indicators"]["quote"][0].values()):
        column.pop()
    result["indicators"]["adjclose"][0]["adjclose"].pop()

    history = parsed(result, at_s(DAYS[3], 8, 0)).history

    assert history.volume_factor.tolist() == [10.0, 10.0, 10.0]
    assert history.bars.close.tolist() == [1000.0, 1010.0, 1020.0]
    assert len(history.open_bar) == 0


@pytest.mark.parametrize(
    ("now", "traded", "is_open"),
    [
        ((15, 59), (15, 59), True),
        ((16, 0), (16, 0), False),
        ((16, 10), (15, 55), True),  # quotes are late: the end was not told yet
        ((16, 30), (15, 20), False),  # nobody traded in the last minutes
    ],
)
def test_the_bar_closes_when_the_end_of_the_session_was_told(
    now: tuple[int, int], traded: tuple[int, int], is_open: bool
) -> None:
    result = chart_result(regularMarketTime=at_s(DAYS[3], *traded))

    history = parsed(result, at_s(DAYS[3], *now)).history

    assert len(history.open_bar) == int(is_open)


def test_yesterday_is_closed_before_today_opens() -> None:
    tomorrow = date(2024, 6, 11)
    session = {"start": at_s(tomorrow), "end": at_s(tomorrow, 16, 0)}
    result = chart_result(currentTradingPeriod={"regular": session})

    history = parsed(result, at_s(tomorrow, 8, 0)).history

    assert len(history.bars) == 4
    assert len(history.open_bar) == 0


def test_todays_row_told_twice_is_one_bar() -> None:
    result = chart_result()
    result["timestamp"].append(MIDDAY_S)
    for column in result["indicators"]["quote"][0].values():
        column.append(column[-1])
    result["indicators"]["quote"][0]["volume"][-1] = 4_321
    result["indicators"]["adjclose"][0]["adjclose"].append(103.0)

    chart = parsed(result, MIDDAY_S)

    assert len(chart.history.bars) == 3
    assert chart.history.open_bar.volume.tolist() == [4_321]
    assert chart.rejected == {}


def test_actions_are_dated_in_the_zone_of_the_exchange() -> None:
    actions = parsed(chart_result()).actions

    assert [(a.kind, a.ex_date, a.value) for a in actions] == [
        ("dividend", DAYS[2], 1.01),
        ("split", DAYS[3], 10.0),
    ]
    assert actions[0].price_step == pytest.approx(102 / 101 * 101 / 99.99 * 101 / 102, rel=1e-9)
    assert actions[1].price_step == 10.0


def test_a_dividend_today_has_its_step_without_an_adjusted_close_of_today() -> None:
    result = chart_result()
    result["events"] = {"dividends": {"d": {"date": at_s(DAYS[3]), "amount": 2.0}}}
    result["indicators"]["adjclose"][0]["adjclose"] = [98.0, 98.98, 99.96, None]

    action = parsed(result, MIDDAY_S).actions[0]

    assert action.price_step == pytest.approx(1 / 0.98, rel=1e-12)


def test_a_daily_row_stamped_before_midnight_is_the_next_days() -> None:
    result = chart_result(exchangeTimezoneName="Europe/London")
    result["timestamp"] = [at_s(day, 0, 0, ZoneInfo("Europe/London")) for day in DAYS]
    result["timestamp"][1] -= 3600

    history = parsed(result).history

    assert history.bars.opened_at_ns.tolist() == [day_ns(day) for day in DAYS]


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("close", None, "null"),
        ("open", None, "null"),
        ("low", 0.0, "bad_price"),
        ("open", -1.0, "bad_price"),
        ("high", "Infinity", "bad_price"),
        ("high", 50.0, "high_below_low"),
    ],
)
def test_a_row_that_makes_no_sense_is_left_out_and_counted(
    column: str, value: object, kind: str
) -> None:
    result = chart_result()
    result["indicators"]["quote"][0][column][1] = value

    chart = parsed(result)

    assert chart.history.bars.opened_at_ns.tolist() == [
        day_ns(day) for day in DAYS if day != DAYS[1]
    ]
    assert chart.rejected == {kind: 1}


def test_a_closed_row_without_adjusted_close_is_left_out_and_counted() -> None:
    result = chart_result()
    result["indicators"]["adjclose"][0]["adjclose"] = [None, 99.99, 102.0, None]

    chart = parsed(result, MIDDAY_S)

    assert len(chart.history.bars) == 2
    assert chart.history.open_bar.close.tolist() == [103.0]
    assert chart.rejected == {"bad_adjclose": 1}


def test_volume_of_none_is_zero_and_an_impossible_one_is_counted() -> None:
    result = chart_result()
    result["indicators"]["quote"][0]["volume"][:2] = [None, -5]

    chart = parsed(result)

    assert chart.history.bars.volume.tolist()[:2] == [0, 0]
    assert chart.rejected == {"bad_volume": 1}


def test_rows_out_of_order_are_sorted_and_counted() -> None:
    ordered, mixed = chart_result(), chart_result()
    quote = mixed["indicators"]["quote"][0]
    for column in (
        mixed["timestamp"], *quote.values(), mixed["indicators"]["adjclose"][0]["adjclose"],
    ):  # fmt: skip
        column[0], column[1] = column[1], column[0]

    chart = parsed(mixed)

    assert chart.rejected == {"out_of_order": 1}
    assert chart.history.data_version == parsed(ordered).history.data_version


def test_of_two_rows_of_a_day_the_last_is_kept_and_the_other_counted() -> None:
    result = chart_result()
    result["timestamp"][1] = result["timestamp"][0] + 60

    chart = parsed(result)

    assert chart.history.bars.close.tolist()[0] == 1010.0
    assert chart.rejected == {"duplicate": 1}


def test_an_event_that_makes_no_sense_is_counted() -> None:
    result = chart_result()
    result["events"]["splits"]["s"]["denominator"] = 0
    result["events"]["dividends"]["d"] = {"date": None, "amount": 1}

    chart = parsed(result)

    assert chart.actions == ()
    assert chart.rejected == {"event": 2}


def test_a_price_that_went_through_32_bits_is_written_as_it_was() -> None:
    result = chart_result()
    result["events"] = {}
    quote = result["indicators"]["quote"][0]
    written = [187.15, 0.1234, 4321.1, 99.995]
    for name in ("open", "high", "low", "close"):
        quote[name] = [float(np.float32(price)) for price in written]
    result["indicators"]["adjclose"][0]["adjclose"] = quote["close"]

    bars = parsed(result).history.bars

    assert quote["close"] != written
    assert bars.close.tolist() == written


def test_a_price_of_full_precision_is_left_alone() -> None:
    result, prices = chart_result(), [187.14999389648439, 0.1, 1 / 3, 2.000000001]
    result["events"] = {}
    for name in ("open", "high", "low", "close"):
        result["indicators"]["quote"][0][name] = prices

    assert parsed(result).history.bars.close.tolist() == prices


# -- data versions --------------------------------------------------------------------------


def test_the_version_is_the_same_while_only_the_open_bar_changes() -> None:
    before, after = chart_result(), chart_result(regularMarketTime=MIDDAY_S + 60)
    after["indicators"]["quote"][0]["close"][3] = 103.5
    after["indicators"]["quote"][0]["volume"][3] = 5_000

    assert (
        parsed(before, MIDDAY_S).history.data_version
        == parsed(after, MIDDAY_S + 60).history.data_version
    )


@pytest.mark.parametrize("change", ["close", "volume", "adjclose", "closed"])
def test_the_version_changes_with_closed_bars_and_factors(change: str) -> None:
    result, now_s = chart_result(), float(MIDDAY_S)
    if change == "closed":
        now_s = EVENING_S
    elif change == "adjclose":
        result["indicators"]["adjclose"][0]["adjclose"][0] = 98.0
    else:
        result["indicators"]["quote"][0][change][0] += 10

    version = parsed(result, now_s).history.data_version

    assert version != parsed(chart_result(), MIDDAY_S).history.data_version
    assert version.startswith("yahoo-1d-")


# -- bars under a day -----------------------------------------------------------------------


def test_a_minute_is_open_until_it_is_over() -> None:
    stamps = [at_s(DAYS[3], 11, 58), at_s(DAYS[3], 11, 59)]
    result = minute_result(stamps, [10.0, 11.0])

    under_way = parsed(result, stamps[1] + 59).history
    over = parsed(result, stamps[1] + 60).history

    assert (len(under_way.bars), len(under_way.open_bar)) == (1, 1)
    assert (len(over.bars), len(over.open_bar)) == (2, 0)
    assert over.bars.opened_at_ns.tolist() == [stamp * 10**9 for stamp in stamps]
    assert over.price_factor.tolist() == over.volume_factor.tolist() == [1.0, 1.0]
    assert over.interval == "1m"


def test_the_last_trade_told_as_a_row_goes_into_the_minute_it_is_of() -> None:
    stamps = [at_s(DAYS[3], 11, 59), at_s(DAYS[3], 11, 59) + 17]
    result = minute_result(stamps, [10.0, 12.0], regularMarketTime=stamps[1])
    result["indicators"]["quote"][0]["volume"][1] = 0

    chart = parsed(result, stamps[1] + 1)

    bar = chart.history.open_bar
    assert len(chart.history.bars) == 0
    assert (bar.open[0], bar.high[0], bar.low[0], bar.close[0]) == (10.0, 12.0, 10.0, 12.0)
    assert bar.volume.tolist() == [100]
    assert chart.rejected == {}


def test_the_last_trade_at_the_close_belongs_to_the_last_minute() -> None:
    stamps = [at_s(DAYS[3], 15, 59), at_s(DAYS[3], 16, 0)]
    result = minute_result(stamps, [10.0, 12.0], regularMarketTime=stamps[1])

    bars = parsed(result).history.bars

    assert bars.opened_at_ns.tolist() == [stamps[0] * 10**9]
    assert bars.close.tolist() == [12.0]


def test_the_first_trade_of_a_minute_opens_it_on_the_grid() -> None:
    stamps = [at_s(DAYS[3], 11, 58), at_s(DAYS[3], 11, 59) + 17]
    result = minute_result(stamps, [10.0, 12.0], regularMarketTime=stamps[1])

    open_bar = parsed(result, stamps[1] + 1).history.open_bar

    assert open_bar.opened_at_ns.tolist() == [at_s(DAYS[3], 11, 59) * 10**9]


def test_minutes_of_the_days_before_a_split_are_as_traded() -> None:
    stamps = [at_s(DAYS[2], 15, 59), at_s(DAYS[3], 9, 29), at_s(DAYS[3], 9, 30)]
    result = minute_result(stamps, [10.0, 10.0, 10.0])
    result["events"] = chart_result()["events"]

    history = parsed(result).history

    assert history.bars.close.tolist() == [100.0, 10.0, 10.0]
    assert history.volume_factor.tolist() == [10.0, 1.0, 1.0]


def test_bars_of_another_interval_than_asked_are_refused() -> None:
    stamps = [at_s(DAYS[3], 10, 30)]
    hours = minute_result(stamps, [10.0]) | {}
    hours["meta"]["dataGranularity"] = "1h"

    assert parse_chart(body(hours), "X", EVENING_S, "60m").history.interval == "60m"
    with pytest.raises(SourceMalformed) as caught:
        parse_chart(body(hours), "X", EVENING_S, "30m")
    assert caught.value.kind == "interval"


# -- what the symbol is ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("currency", "major", "units"),
    [("USD", "USD", 1), ("GBp", "GBP", 100), ("ZAc", "ZAR", 100), ("ILA", "ILS", 100)],
)
def test_the_currency_of_prices_says_its_major_one(currency: str, major: str, units: int) -> None:
    info = parsed(chart_result(currency=currency)).info

    assert (info.currency, info.major_currency, info.minor_units) == (currency, major, units)
    assert (info.name, info.exchange, info.kind) == ("X Corporation", "NMS", "equity")
    assert info.time_zone == "America/New_York"
    assert info.delay_s is None


# -- answers that are none ------------------------------------------------------------------


def _without(path: str) -> dict[str, Any]:
    result = chart_result()
    place = result
    *folders, last = path.split("/")
    for folder in folders:
        place = place[folder]
    del place[last]
    return result


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"<html>Will be right back</html>", "not_json"),
        (b"", "not_json"),
        (body(chart_result())[:400], "not_json"),
        (b"[]", "no_result"),
        (b'{"chart": null}', "no_result"),
        (b'{"chart": {"result": null, "error": null}}', "no_result"),
        (b'{"chart": {"result": [], "error": null}}', "no_result"),
        (b'{"chart": {"result": [null], "error": null}}', "chart_shape"),
        (b'{"finance": {"result": null, "error": {"code": "Unauthorized"}}}', "refused"),
        (body(_without("timestamp")), "no_rows"),
        (body(_without("meta")), "chart_shape"),
        (body(_without("meta/currentTradingPeriod")), "chart_shape"),
        (body(_without("meta/exchangeTimezoneName")), "time_zone"),
        (body(_without("indicators")), "chart_shape"),
        (body(chart_result(exchangeTimezoneName="Nowhere/At_All")), "time_zone"),
        (body(chart_result(exchangeTimezoneName="../../etc/passwd")), "time_zone"),
        (body(chart_result(dataGranularity="1wk")), "interval"),
        (body(chart_result() | {"timestamp": [1, 2]}), "lengths_differ"),
        (body(chart_result() | {"timestamp": [[1], [2], [3], [4]]}), "chart_shape"),
        (body(chart_result() | {"timestamp": ["a", "b", "c", "d"]}), "chart_shape"),
        (body(chart_result() | {"timestamp": [1e300] * 4}), "no_rows"),
    ],
)
def test_an_answer_that_is_no_chart_is_named_by_its_kind(answer: bytes, kind: str) -> None:
    with pytest.raises(SourceMalformed) as caught:
        parse_chart(answer, "X", EVENING_S)

    assert caught.value.kind == kind


def test_an_unknown_symbol_is_no_malformed_answer() -> None:
    answer = {"chart": {"result": None, "error": {"code": "Not Found", "description": "No data"}}}

    with pytest.raises(SymbolUnknown, match="NOPE"):
        parse_chart(orjson.dumps(answer), "NOPE", EVENING_S)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
PLACES = [
    ("timestamp",), ("meta",), ("events",), ("indicators",), ("meta", "regularMarketTime"),
    ("meta", "currentTradingPeriod"), ("meta", "dataGranularity"), ("meta", "currency"),
    ("meta", "exchangeTimezoneName"), ("timestamp", 1), ("events", "splits"),
    ("events", "splits", "s"),
    ("events", "dividends", "d"), ("events", "splits", "s", "date"),
    ("events", "splits", "s", "numerator"), ("indicators", "quote"),
    ("indicators", "quote", 0, "close"), ("indicators", "quote", 0, "volume", 2),
    ("indicators", "quote", 0, "high", 2), ("indicators", "adjclose"),
    ("indicators", "adjclose", 0, "adjclose", 3),
]  # fmt: skip


@example(place=("indicators", "quote", 0, "high", 2), value=3.40282357e38)  # beyond 32 bits
@given(place=st.sampled_from(PLACES), value=JSON)
def test_whatever_stands_anywhere_there_are_good_bars_or_a_malformed_answer(
    place: tuple[str | int, ...], value: object
) -> None:
    result = chart_result()
    holder: Any = result
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value

    try:
        history = parsed(result).history
    except SourceMalformed:
        return

    bars = history.bars
    assert (np.diff(bars.opened_at_ns) > 0).all()
    for column in (bars.open, bars.high, bars.low, bars.close, history.price_factor):
        assert np.isfinite(column).all()
        assert (column > 0).all()
    assert (bars.volume >= 0).all()


# -- quotes ---------------------------------------------------------------------------------

NOW_NS = EVENING_S * 10**9


def quote_row(**fields: Any) -> dict[str, Any]:
    return {
        "symbol": "X",
        "quoteType": "EQUITY",
        "currency": "USD",
        "longName": "X Corporation",
        "exchange": "NMS",
        "fullExchangeName": "NasdaqGS",
        "exchangeTimezoneName": "America/New_York",
        "exchangeDataDelayedBy": 15,
        "marketState": "REGULAR",
        "regularMarketPrice": 103.0,
        "regularMarketTime": MIDDAY_S,
        "regularMarketPreviousClose": 102.0,
        "regularMarketOpen": 102.5,
        "regularMarketDayHigh": 104.0,
        "regularMarketDayLow": 101.0,
        "regularMarketVolume": 4_000,
        **fields,
    }


def quote_body(*rows: object) -> bytes:
    return orjson.dumps({"quoteResponse": {"result": rows, "error": None}})


def quoted(**fields: Any) -> Any:
    return parse_quotes(quote_body(quote_row(**fields)), ["X"], NOW_NS)["X"]


def test_a_quote_has_the_session_so_far() -> None:
    assert quoted() == Quote(
        symbol="X",
        price=103.0,
        previous_close=102.0,
        open=102.5,
        high=104.0,
        low=101.0,
        volume=4_000,
        session=DAYS[3],
        traded_at_ns=MIDDAY_S * 10**9,
        market_status="open",
        source="yahoo",
        synthetic=False,
        data_version="",
        received_at_ns=NOW_NS,
        currency="USD",
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("PREPRE", "closed"),
        ("PRE", "pre"),
        ("REGULAR", "open"),
        ("POST", "post"),
        ("POSTPOST", "closed"),
        ("CLOSED", "closed"),
    ],
)
def test_states_of_the_market_are_ours(state: str, status: str) -> None:
    assert quoted(marketState=state).market_status == status


def test_the_session_is_the_date_at_the_exchange() -> None:
    tokyo_morning = int(datetime(2024, 6, 9, 23, 59, tzinfo=UTC).timestamp())

    quote = quoted(exchangeTimezoneName="Asia/Tokyo", regularMarketTime=tokyo_morning)

    assert quote.session == date(2024, 6, 10)


def test_a_fund_with_one_price_a_day_has_it_as_its_high_and_low() -> None:
    missing = dict.fromkeys(
        ("regularMarketOpen", "regularMarketDayHigh", "regularMarketDayLow", "regularMarketVolume")
    )

    quote = quoted(**missing)

    assert (quote.open, quote.high, quote.low, quote.volume) == (103.0, 103.0, 103.0, 0)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"regularMarketPrice": None}, "quote_price"),
        ({"regularMarketPrice": 0}, "quote_price"),
        ({"regularMarketPrice": -1.0}, "quote_price"),
        ({"regularMarketPrice": "103"}, "quote_price"),
        ({"regularMarketPrice": {"raw": 103}}, "quote_price"),
        ({"regularMarketTime": None}, "quote_time"),
        ({"regularMarketTime": 1e30}, "quote_time"),
        ({"marketState": "LUNCH"}, "quote_state"),
        ({"marketState": ["REGULAR"]}, "quote_state"),
        ({"exchangeTimezoneName": None}, "time_zone"),
        ({"regularMarketDayLow": 105.0}, "high_below_low"),
    ],
)
def test_a_quote_that_makes_no_sense_spoils_no_other(fields: dict[str, Any], kind: str) -> None:
    answer = quote_body(quote_row(**fields), quote_row(symbol="Y"), None, 5)

    quotes = parse_quotes(answer, ["Y", "X"], NOW_NS)

    assert list(quotes) == ["Y", "X"]
    assert isinstance(quotes["Y"], Quote)
    wrong = quotes["X"]
    assert isinstance(wrong, SourceMalformed)
    assert wrong.kind == kind


@pytest.mark.parametrize("rows", [(), (quote_row(quoteType="NONE"),)])
def test_a_symbol_without_a_quote_is_unknown(rows: tuple[object, ...]) -> None:
    assert isinstance(parse_quotes(quote_body(*rows), ["X"], NOW_NS)["X"], SymbolUnknown)


def test_a_refusal_is_the_error_of_all_quotes() -> None:
    answer = {"finance": {"result": None, "error": {"code": "Unauthorized"}}}

    with pytest.raises(SourceMalformed) as caught:
        parse_quotes(orjson.dumps(answer), ["X"], NOW_NS)

    assert caught.value.kind == "refused"


def test_a_quote_says_what_its_symbol_is() -> None:
    info = quote_infos(quote_body(quote_row(currency="GBp"), {"symbol": "Y"}), NOW_NS)["X"]

    assert (info.name, info.exchange, info.kind) == ("X Corporation", "NasdaqGS", "equity")
    assert (info.currency, info.major_currency, info.minor_units) == ("GBp", "GBP", 100)
    assert info.delay_s == 900.0
    assert info.received_at_ns == NOW_NS


# -- the streamer's messages ----------------------------------------------------------------


def message(**members: Any) -> str:
    data = pricing_data_class()(
        **{"id": "X", "price": 187.15, "time": 1_718_035_200_123, "market_hours": 1} | members
    )
    packed = base64.b64encode(data.SerializeToString()).decode()
    return orjson.dumps({"type": "pricing", "message": packed}).decode()


def test_a_tick_has_the_price_as_it_was_written() -> None:
    tick = decode_message(message(day_high=190.05, day_volume=4_000, currency="USD"))

    assert tick is not None
    assert (tick.symbol, tick.price, tick.day_high) == ("X", 187.15, 190.05)
    assert tick.at_ns == 1_718_035_200_123_000_000
    assert (tick.day_volume, tick.currency, tick.part) == (4_000, "USD", "regular")
    assert (tick.day_low, tick.open_price, tick.previous_close) == (None, None, None)
    assert tick.exchange is None


@given(price=st.floats(2.0**-20, 1e6, width=32))
def test_a_ticks_price_is_the_same_in_32_bits(price: float) -> None:
    tick = decode_message(message(price=price))

    assert tick is not None
    assert struct.pack("<f", tick.price) == struct.pack("<f", price)
    assert len(repr(tick.price)) <= len(repr(price))


@pytest.mark.parametrize(
    ("number", "part"), [(0, "pre"), (1, "regular"), (2, "post"), (3, "extended"), (9, "extended")]
)
def test_a_tick_says_which_part_of_the_day_it_is_of(number: int, part: str) -> None:
    tick = decode_message(message(market_hours=number))

    assert tick is not None
    assert tick.part == part


@pytest.mark.parametrize("text", ['{"type": "heartbeat"}', b'{"type": "status", "message": 5}'])
def test_messages_of_other_types_are_no_ticks(text: str | bytes) -> None:
    assert decode_message(text) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "not_json"),
        ("CgRBQVBM", "not_json"),
        ("[]", "not_pricing"),
        ('{"type": "pricing"}', "not_pricing"),
        ('{"type": "pricing", "message": 5}', "not_pricing"),
        ('{"type": "pricing", "message": "%%%"}', "not_pricing"),
        ('{"type": "pricing", "message": "//////8="}', "not_pricing"),
        (message(id=""), "tick_symbol"),
        (message(price=float("nan")), "tick_price"),
        (message(price=float("inf")), "tick_price"),
        (message(price=-1.0), "tick_price"),
        (message(price=0.0), "tick_price"),
        (message(time=0), "tick_time"),
        (message(time=2**62), "tick_time"),
    ],
)
def test_a_message_that_makes_no_sense_is_named_by_its_kind(text: str, kind: str) -> None:
    with pytest.raises(SourceMalformed) as caught:
        decode_message(text)

    assert caught.value.kind == kind


def test_parsing_leaves_what_it_was_given_alone() -> None:
    result = chart_result()
    before = copy.deepcopy(result)

    chart = parsed(result)

    assert result == before
    for column in (chart.history.bars.close, chart.history.price_factor):
        assert not column.flags.writeable
