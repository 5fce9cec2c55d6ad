"""One message of every kind that the hub carries, as the service makes them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import orjson

from actors.alerts.firing import message_of
from actors.feed.minutes import bar_update
from infra.bars import Quote
from infra.db.alerts import Alert
from infra.messages import (
    ACTIONS,
    BARS,
    BROADCAST,
    DATA,
    ENDED,
    EXTENDED,
    LEAVING,
    PERFORMANCE,
    PRICES,
    SERVICE_ALERT,
    SOURCE_DATA,
    SYSTEM,
    TASKS,
    TECHNICAL,
    TECHNICAL_ALERTS,
    Kind,
    Message,
)
from infra.quotes import price_update
from infra.tick_bars import BarUpdate
from serve.cli.up import farewell

AT = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)
AT_NS = int(AT.timestamp()) * 10**9


def price(value: float, symbol: str = "AAPL", topic: str = PRICES) -> Message:
    """Return a regular price as the feed tells it."""
    quote = Quote(
        symbol, value, 100.0, 99.0, 103.0, 98.0, 5_000, date(2026, 3, 4), AT_NS, "open", "replay",
        True, "v1",
    )  # fmt: skip
    return Message(topic + symbol, orjson.dumps(price_update(quote, None)))


def alert(number: int, symbol: str = "AAPL") -> Message:
    """Return a price alert as the alert engine tells it."""
    given = Alert(
        rule_id="price_rise", symbol=symbol, alert_type="price_rise", base_type="previous_close",
        base_price=100.0, current_price=104.0, threshold_percent=3.0, actual_percent=4.0,
        severity="info", message="AAPL at 104.00: +4 %", source="replay", synthetic=True,
        traded_at=AT, triggered_at=AT,
    )  # fmt: skip
    return message_of(number, given)


def said(topic: str, **body: object) -> Message:
    """Return a message of these members."""
    return Message(topic, orjson.dumps(body))


SAMPLES: dict[Kind, Message] = {
    Kind.PRICES: price(101.0),
    Kind.EXTENDED: price(101.0, topic=EXTENDED),
    Kind.DATA: said(DATA + "AAPL", type="data_version", symbol="AAPL", data_version="v2"),
    Kind.SOURCE_DATA: said(
        SOURCE_DATA + "AAPL", type="data_version", symbol="AAPL", data_version="v2"
    ),
    Kind.BARS: Message(
        BARS + "AAPL",
        orjson.dumps(
            bar_update(BarUpdate("AAPL", AT_NS, 99.0, 103.0, 98.0, 101.0, 70, 0), "replay")
        ),
    ),
    Kind.ACTIONS: said(ACTIONS + "AAPL", type="corporate_action", symbol="AAPL"),
    Kind.TECHNICAL: said(
        TECHNICAL + "AAPL:1d",
        type="technical_analysis_update",
        symbol="AAPL",
        interval="1d",
        values={"rsi(14)": {"rsi": 25.0}},
    ),  # fmt: skip
    Kind.TECHNICAL_ALERTS: said(
        TECHNICAL_ALERTS + "AAPL:1d:golden_cross", type="technical_alert", symbol="AAPL"
    ),
    Kind.ALERTS: alert(7),
    Kind.SYSTEM: said(SYSTEM, type="system_status", event="data_restarted"),
    Kind.BROADCAST: said(BROADCAST + "all", type="system_status", message="hello"),
    Kind.TASKS: said(TASKS + "queue", type="task_queue"),
    Kind.PERFORMANCE: said(SERVICE_ALERT, type="service_alert", event="triggered", alert={}),
    Kind.LEAVING: Message(LEAVING + "other", farewell("this process is replaced")),
    Kind.ENDED: Message(TECHNICAL + "META:1d", ENDED),
    Kind.UNKNOWN: said("weather:AAPL", type="weather"),
}
READING = said(PERFORMANCE + "now", type="metrics_update")
