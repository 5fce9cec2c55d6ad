"""Sockets: the snapshot first, then every next value; a slow one hurts nobody."""

from __future__ import annotations

from typing import Any

import msgpack
import orjson
import pytest

from actors.indicators.tables import LiveWant
from infra.errors import (
    ActorUnavailable,
    FinstageError,
    ParameterInvalid,
    RangeInvalid,
    SymbolUnknown,
)
from infra.messages import (
    ALERTS,
    ENDED,
    PRICES,
    SYSTEM,
    TECHNICAL,
    TECHNICAL_ALERTS,
    Batch,
    Message,
    Position,
    Snapshot,
)
from serve.ws.frames import JSON, framed
from serve.ws.outbox import Outbox, Taking
from serve.ws.protocol import Session, Terms
from serve.ws.sockets import SocketTable


def price(symbol: str, value: float) -> Message:
    return Message(PRICES + symbol, orjson.dumps({"type": "price_update", "price": value}))


def table() -> SocketTable:
    table = SocketTable()
    table.on_snapshot(
        Snapshot(Position("e1", 2), ((1, price("AAPL", 1.0)), (2, price("IBM", 2.0))))
    )
    return table


def session(table: SocketTable, max_symbols: int = 10) -> tuple[Session, Any]:
    outbox = table.open()
    return Session(
        "client", table, outbox, Terms("replay", max_symbols, ("stock", "index"))
    ), outbox


def say(who: Session, **request: Any) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(who.reply(orjson.dumps(request), 1.0).payload)
    return answer


def taken(outbox: Outbox, now_s: float = 0.0) -> list[dict[str, Any]]:
    """Return what leaves an outbox at an instant."""
    return [orjson.loads(frame.payload) for frame in outbox.take(lambda: now_s)]


def subscribe(who: Session, *symbols: str) -> dict[str, Any]:
    return say(who, action="subscribe", type="prices", symbols=list(symbols))


def test_a_subscription_answers_with_the_whole_set_and_a_snapshot() -> None:
    who, _ = session(table())

    subscribe(who, "IBM")
    answer = subscribe(who, "aapl")

    assert answer["symbols"] == ["AAPL"]
    assert answer["subscriptions"] == ["AAPL", "IBM"]
    assert (answer["epoch"], answer["offset"]) == ("e1", 2)
    assert answer["snapshot"] == [
        {"epoch": "e1", "offset": 1, "type": "price_update", "price": 1.0}
    ]


async def test_only_what_comes_after_the_snapshot_follows() -> None:
    sockets = table()
    who, outbox = session(sockets)
    sockets.on_batch(Batch(Position("e1", 3), (price("AAPL", 3.0),)))
    subscribe(who, "AAPL")
    sockets.on_batch(Batch(Position("e1", 5), (price("IBM", 4.0), price("AAPL", 5.0))))

    frames = taken(outbox)

    assert [(frame["offset"], frame["price"]) for frame in frames] == [(5, 5.0)]


async def test_a_slow_socket_keeps_one_frame_a_symbol_and_the_rare_one_is_not_starved() -> None:
    sockets = table()
    who, outbox = session(sockets)
    subscribe(who, "AAPL", "IBM")
    sockets.on_batch(Batch(Position("e1", 3), (price("IBM", 9.0),)))
    for n in range(4, 1_004):
        sockets.on_batch(Batch(Position("e1", n), (price("AAPL", float(n)),)))

    frames = taken(outbox)

    assert [frame["price"] for frame in frames] == [9.0, 1_003.0]


async def test_unsubscribing_one_symbol_leaves_the_others() -> None:
    sockets = table()
    who, outbox = session(sockets)
    subscribe(who, "AAPL", "IBM")

    answer = say(who, action="unsubscribe", type="prices", symbols=["AAPL"])
    sockets.on_batch(Batch(Position("e1", 4), (price("AAPL", 1.0), price("IBM", 2.0))))

    assert answer["subscriptions"] == ["IBM"]
    assert len(taken(outbox)) == 1
    assert say(who, action="unsubscribe")["subscriptions"] == []


async def test_a_new_epoch_is_told_with_a_snapshot_to_those_who_subscribed() -> None:
    sockets = table()
    who, outbox = session(sockets)
    _, idle = session(sockets)
    subscribe(who, "AAPL")

    sockets.on_snapshot(Snapshot(Position("e2", 1), ((1, price("AAPL", 7.0)),)))
    sockets.on_batch(Batch(Position("e2", 2), (Message(SYSTEM, b'{"type":"system_status"}'),)))

    told, system = taken(outbox)
    assert (told["recovered"], told["epoch"], told["offset"]) == (False, "e2", 1)
    assert told["snapshot"][0]["price"] == 7.0
    assert system["offset"] == 2
    assert len(taken(idle)) == 1


async def test_news_in_a_new_epochs_snapshot_reaches_every_socket_once() -> None:
    sockets = table()
    _, outbox = session(sockets)
    news = Message(SYSTEM, b'{"type":"system_status","event":"data_restarted"}')

    sockets.on_snapshot(Snapshot(Position("e2", 1), ((1, news),)))
    first = taken(outbox)
    sockets.on_snapshot(Snapshot(Position("e2", 2), ((1, news), (2, price("AAPL", 7.0)))))
    outbox.put("x", framed(b'{"n":3}', JSON), Taking())

    assert [news["event"] for news in first] == ["data_restarted"]
    assert taken(outbox) == [{"n": 3}]


def test_a_symbol_stays_known_through_a_new_epoch_without_prices() -> None:
    sockets = table()
    who, _ = session(sockets)

    sockets.on_snapshot(Snapshot(Position("e2", 0), ()))

    assert subscribe(who, "AAPL")["action"] == "subscribed"
    assert subscribe(who, "NOPE")["code"] == 105


def test_a_closed_socket_leaves_nothing_behind() -> None:
    sockets = table()
    who, outbox = session(sockets)
    subscribe(who, "AAPL")

    sockets.close(outbox)
    sockets.on_batch(Batch(Position("e1", 3), (price("AAPL", 3.0),)))

    assert len(sockets) == 0
    assert not list(sockets._takers)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"action": "fly"}, 101),
        ({}, 101),
        ({"action": "subscribe", "symbols": ["AAPL"]}, 102),
        ({"action": "subscribe", "type": "prices", "symbols": [1]}, 104),
        ({"action": "subscribe", "type": "prices"}, 104),
        ({"action": "subscribe", "type": "prices", "symbols": ["NOPE"]}, 105),
        ({"action": "subscribe", "type": "prices", "symbols": ["../etc"]}, 105),
        ({"action": "subscribe", "type": "prices", "symbols": ["category:nope"]}, 105),
        ({"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "mode": "some"}, 110),
        ({"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "fields": "n"}, 110),
        ({"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "encoding": "xml"}, 110),
        ({"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "recover": 3}, 110),
        ({"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "max_rate_hz": -1}, 110),
        ({"action": "get_price_history"}, 104),
        ({"action": "get_price_history", "symbol": "NOPE"}, 105),
        ({"action": "get_price_history", "symbol": "AAPL", "limit": 0}, 110),
        ({"action": "get_current_prices", "symbols": ["NOPE"]}, 105),
    ],
)
def test_a_wrong_message_is_a_numbered_error_that_keeps_its_id(
    request_: dict[str, Any], code: int
) -> None:
    who, _ = session(table())

    answer = say(who, **request_, id="x1")

    assert (answer["type"], answer["code"], answer["id"]) == ("error", code, "x1")


def told(symbol: str, value: float) -> Message:
    body = {
        "type": "price_update",
        "symbol": symbol,
        "current_price": value,
        "change_amount": 1.0,
        "change_percent": 0.5,
        "timestamp": f"2026-11-24T00:00:0{value:g}+00:00",
    }
    return Message(PRICES + symbol, orjson.dumps(body))


def test_prices_of_now_and_before_are_there_for_who_asks() -> None:
    sockets = SocketTable()
    first = tuple((n, told(s, float(n))) for n, s in enumerate(("AAPL", "IBM"), start=1))
    sockets.on_snapshot(Snapshot(Position("e1", 2), first))
    sockets.on_batch(Batch(Position("e1", 5), tuple(told("AAPL", float(n)) for n in (3, 4, 5))))
    who, _ = session(sockets)

    answer = say(who, action="get_current_prices")
    assert (answer["type"], answer["action"]) == ("price_update", "current_prices")
    assert answer["prices"] == {"AAPL": 5.0, "IBM": 2.0}
    assert say(who, action="get_current_prices", symbols=["ibm"])["prices"] == {"IBM": 2.0}

    answer = say(who, action="get_price_history", symbol="AAPL", limit=2)
    assert (answer["action"], answer["symbol"], answer["count"]) == ("price_history", "AAPL", 2)
    assert [row["price"] for row in answer["history"]] == [4.0, 5.0]
    assert set(answer["history"][0]) == {
        "symbol", "price", "change_amount", "change_percent", "timestamp",
    }  # fmt: skip


def test_a_client_is_told_of_itself_and_of_all() -> None:
    sockets = SocketTable()
    sockets.on_snapshot(Snapshot(Position("e1", 1), ((1, told("AAPL", 1.0)),)))
    who, outbox = session(sockets)
    subscribe(who, "AAPL")
    say(who, action="fly")

    status = say(who, action="get_status")

    client = status["client_stats"]
    assert client["subscriptions"] == ["AAPL"]
    assert client["subscription_types"] == ["prices"]
    assert (client["message_count"], client["error_count"]) == (3, 1)
    manager = status["websocket_manager_stats"]
    assert (manager["active_connections"], manager["total_errors"]) == (1, 1)
    assert manager["subscription_stats"]["prices"] == 1
    streamer = status["price_streamer_stats"]
    assert (streamer["monitored_symbols"], streamer["symbols_with_prices"]) == (1, 1)
    assert streamer["last_update_time"] == "2026-11-24T00:00:01+00:00"
    sockets.close(outbox)
    assert sockets.stats(2.0)["total_connections"] == 1


async def test_patterns_take_what_comes_later_too() -> None:
    sockets = SocketTable(category_of={"AAPL": "stock", "^GSPC": "index", "NEW": "stock"}.get)
    sockets.on_snapshot(Snapshot(Position("e1", 2), ((1, price("AAPL", 1.0)),)))
    (every, all_), (stocks, some) = session(sockets), session(sockets)

    assert len(subscribe(every, "*")["snapshot"]) == 1
    assert subscribe(stocks, "category:Stock")["subscriptions"] == ["category:stock"]
    subscribe(stocks, "AAPL")  # by name too: still once
    news = (price("AAPL", 3.0), price("^GSPC", 4.0), price("NEW", 5.0))
    sockets.on_batch(Batch(Position("e1", 5), news))

    assert [f["price"] for f in taken(all_)] == [3.0, 4.0, 5.0]
    assert [f["price"] for f in taken(some)] == [3.0, 5.0]
    assert sockets.subscribed == ("AAPL",)
    sockets.on_batch(Batch(Position("e1", 6), (price("NEW", 6.0),)))
    say(stocks, action="unsubscribe", symbols=["category:stock"])
    sockets.on_batch(Batch(Position("e1", 8), (price("NEW", 7.0), price("AAPL", 8.0))))
    assert [f["price"] for f in taken(some)] == [8.0]


def live(symbol: str, value: float, interval: str = "1d") -> Message:
    body = {"type": "technical_analysis_update", "value": value}
    return Message(f"{TECHNICAL}{symbol}:{interval}", orjson.dumps(body))


def subscribe_live(who: Session, *symbols: str, **more: Any) -> dict[str, Any]:
    request = {"action": "subscribe", "type": "technical_analysis", "symbols": list(symbols)}
    return say(who, **(request | more))


async def test_live_values_come_by_symbol_and_interval() -> None:
    sockets = table()
    who, outbox = session(sockets)
    sockets.on_batch(Batch(Position("e1", 3), (live("AAPL", 1.0),)))

    answer = subscribe_live(who, "AAPL", "IBM", indicators="ema(9)")
    assert [found["value"] for found in answer["snapshot"]] == [1.0]
    assert answer["subscriptions"] == ["AAPL:1d", "IBM:1d"]
    assert sorted(sockets.live_wants) == [
        LiveWant("AAPL", "1d", "ema(9)"),
        LiveWant("IBM", "1d", "ema(9)"),
    ]
    assert sockets.subscribed == ()
    alert = Message(f"{TECHNICAL_ALERTS}AAPL:1d:golden_cross", b'{"type":"technical_alert"}')
    news = (live("AAPL", 2.0), live("AAPL", 9.0, "1m"), alert, price("AAPL", 5.0))
    sockets.on_batch(Batch(Position("e1", 7), news))
    frames = taken(outbox)
    assert [(f["type"], f.get("value")) for f in frames] == [
        ("technical_analysis_update", 2.0),
        ("technical_alert", None),
    ]

    say(who, action="unsubscribe", type="technical_analysis", symbols=["AAPL"])
    assert list(sockets.live_wants) == [LiveWant("IBM", "1d", "ema(9)")]
    sockets.close(outbox)
    assert not sockets.live_wants


def test_values_that_are_live_no_more_are_in_no_snapshot() -> None:
    sockets = table()
    who, _ = session(sockets)
    ended = Message(f"{TECHNICAL}AAPL:1d", ENDED)
    sockets.on_batch(Batch(Position("e1", 4), (live("AAPL", 1.0), ended)))

    assert subscribe_live(who, "AAPL")["snapshot"] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RangeInvalid(("query", "indicators"), "64 sets at most", 64), 109),
        (ParameterInvalid(("query", "indicators"), "zzz", ["rsi"]), 109),
        (SymbolUnknown("AAPL", []), 105),
        (ActorUnavailable("finstage-indicators", 5.0), 107),
    ],
)
def test_what_cannot_be_live_is_refused_with_the_reason(error: FinstageError, code: int) -> None:
    who, outbox = session(table())
    text = orjson.dumps(
        {"action": "subscribe", "type": "technical_analysis", "symbols": ["AAPL"], "id": 1}
    )
    asked = who.asked(text)
    assert asked is not None
    wants = asked.wants
    assert wants == (LiveWant("AAPL"),)
    who.meet_live({wants[0]: error})

    answer = orjson.loads(who.reply(text, 1.0).payload)

    assert (answer["code"], answer["message"]) == (code, error.message)
    assert not outbox.topics
    who.meet_live({})
    assert orjson.loads(who.reply(text, 1.0).payload)["action"] == "subscribed"


def test_only_a_subscription_to_live_values_wants_them() -> None:
    who, _ = session(table())
    for request in (
        {"action": "subscribe", "type": "prices", "symbols": ["AAPL"]},
        {"action": "unsubscribe", "type": "technical_analysis", "symbols": ["AAPL"]},
        {"action": "subscribe", "type": "technical_analysis", "symbols": [1]},
        {"action": "subscribe", "type": "technical_analysis", "symbols": ["AAPL"], "interval": 1},
    ):
        asked = who.asked(orjson.dumps(request))
        assert asked is None or asked.wants == ()
    assert subscribe_live(who, "AAPL", interval=1)["code"] == 109
    assert subscribe_live(who, "AAPL", indicators=["rsi"])["code"] == 109


def test_a_socket_takes_no_more_symbols_than_it_may() -> None:
    who, outbox = session(table(), max_symbols=1)
    subscribe(who, "AAPL")

    assert subscribe(who, "IBM")["code"] == 106
    assert set(outbox.topics) == {"prices:AAPL"}


# -- what everybody gets together --------------------------------------------------------------


async def test_every_type_at_once_each_in_its_own_way() -> None:
    sockets = table()
    who, outbox = session(sockets)

    answer = say(who, action="subscribe", type="all")
    bar = Message("bars:AAPL", b'{"type":"bar_update","n":1}')
    later = Message("bars:AAPL", b'{"type":"bar_update","n":2}')
    news = (price("AAPL", 3.0), bar, live("IBM", 1.0), price("AAPL", 4.0), later)
    sockets.on_batch(Batch(Position("e1", 7), news))

    assert answer["symbols"] == ["*"]
    kinds = ["alerts", "bars", "performance", "prices", "tasks", "technical_analysis"]
    assert answer["subscriptions"] == [f"{kind}:*" for kind in kinds]
    kinds = [frame["type"] for frame in taken(outbox)]
    assert kinds == ["bar_update", "technical_analysis_update", "price_update", "bar_update"]
    assert say(who, action="unsubscribe", type="all")["subscriptions"] == []


async def test_tasks_are_of_no_symbol_and_each_state_comes() -> None:
    sockets = table()
    who, outbox = session(sockets)

    assert say(who, action="subscribe", type="tasks", symbols=["AAPL"])["code"] == 104
    assert say(who, action="subscribe", type="tasks")["subscriptions"] == ["*"]
    news = [Message("tasks:report", b'{"type":"task_update","n":%d}' % n) for n in range(3)]
    sockets.on_batch(Batch(Position("e1", 6), (news[0], price("AAPL", 3.0), news[1], news[2])))
    assert [frame["n"] for frame in taken(outbox)] == [0, 1, 2]

    # and who comes back has those that were missed
    again, later = session(sockets)
    back = {"epoch": "e1", "offset": 3}
    assert say(again, action="subscribe", type="tasks", recover=back)["recovered"] is True
    assert [frame["n"] for frame in taken(later)] == [1, 2]
    both = say(who, action="subscribe", type="all", symbols=["AAPL"])["subscriptions"]
    assert "tasks:AAPL" not in both


async def test_an_outbox_is_told_once_a_batch() -> None:
    sockets = table()
    who, outbox = session(sockets)
    _, idle = session(sockets)
    told: list[str] = []
    outbox.on_ready = lambda: told.append("mine")
    idle.on_ready = lambda: told.append("idle")
    subscribe(who, "AAPL", "IBM")

    sockets.on_batch(Batch(Position("e1", 4), (price("AAPL", 3.0), price("IBM", 4.0))))

    assert told == ["mine"]


def alert(number: int, symbol: str = "AAPL", kind: str = "price_rise") -> Message:
    body = {"type": "alert", "alert_id": number, "symbol": symbol, "alert_type": kind}
    return Message(f"{ALERTS}{symbol}:{kind}", orjson.dumps(body))


async def test_an_alert_told_again_after_the_hub_restarted_is_no_second_one() -> None:
    sockets = table()
    who, outbox = session(sockets)
    say(who, action="subscribe", type="all")
    sockets.on_batch(Batch(Position("e1", 4), (alert(1), alert(2, "IBM"))))
    assert [f["alert_id"] for f in taken(outbox)] == [1, 2]

    sockets.on_snapshot(Snapshot(Position("e2", 0), ()))
    sockets.on_batch(Batch(Position("e2", 3), (alert(1), alert(2, "IBM"), alert(3))))

    snapshot, *rest = taken(outbox)
    assert snapshot["snapshot"] == []
    assert [f["alert_id"] for f in rest] == [3]


async def test_alerts_of_a_symbol_and_of_all() -> None:
    sockets = table()
    (who, of_all), (some, of_ibm) = session(sockets), session(sockets)
    assert say(who, action="subscribe", type="alerts")["subscriptions"] == ["*"]
    answer = say(some, action="subscribe", type="alerts", symbols=["IBM"])
    assert (answer["subscriptions"], answer["snapshot"]) == (["IBM"], [])

    news = (alert(1), alert(2, "IBM"), alert(3, "IBM", "surge"), price("IBM", 5.0))
    sockets.on_batch(Batch(Position("e1", 6), news))

    assert [f["alert_id"] for f in taken(of_all)] == [1, 2, 3]
    assert [f["alert_id"] for f in taken(of_ibm)] == [2, 3]
    late, _ = session(sockets)
    answer = say(late, action="subscribe", type="alerts", symbols=["IBM"])
    assert [a["alert_id"] for a in answer["snapshot"]] == [2, 3]  # the last of each type


async def test_alerts_that_waited_when_the_hub_restarted_are_in_the_snapshot() -> None:
    sockets = table()
    who, outbox = session(sockets)
    say(who, action="subscribe", type="all")
    sockets.on_batch(Batch(Position("e1", 3), (alert(1),)))
    taken(outbox)
    sockets.on_batch(Batch(Position("e1", 5), (alert(2), alert(3, "IBM"))))

    history = (alert(4),)
    sockets.on_snapshot(Snapshot(Position("e2", 1), ((1, alert(4)),), history))

    (snapshot,) = taken(outbox)
    assert [a["alert_id"] for a in snapshot["snapshot"]] == [2, 3, 4]
    comes_back, _ = session(sockets)
    place = {"epoch": "e1", "offset": 4, "alert_id": 2}
    answer = say(comes_back, action="subscribe", type="all", recover=place)
    assert answer["recovered"] is False
    assert [a["alert_id"] for a in answer["snapshot"]] == [3, 4]


@pytest.mark.parametrize(
    ("request_", "near"),
    [
        ({"action": "subscribe", "type": "prices", "symbol": ["AAPL"]}, "symbols"),
        ({"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "feilds": []}, "fields"),
        ({"action": "subscribe", "type": "all", "timeframe": "1d"}, "interval"),
        ({"action": "unsubscribe", "symbol": "AAPL"}, "symbols"),
        ({"action": "get_price_history", "symbols": ["AAPL"]}, "symbol"),
    ],
    ids=["symbol", "fields", "other word", "unsubscribe", "history"],
)
def test_a_member_that_is_nearly_a_known_one_is_refused(
    request_: dict[str, Any], near: str
) -> None:
    who, outbox = session(table())

    answer = say(who, **request_, id=1)

    assert (answer["code"], answer["id"]) == (111, 1)
    assert f"{near!r} is probably meant" in answer["message"]
    assert who.asked(orjson.dumps(request_)) is None
    assert not outbox.topics


def test_a_member_that_is_near_to_none_is_let_be() -> None:
    who, _ = session(table())

    answer = say(who, action="subscribe", type="prices", symbols=["AAPL"], client="me", x=1)

    assert answer["action"] == "subscribed"


@pytest.mark.parametrize(
    ("intervals", "interval", "said"),
    [
        (("1d", "1wk"), {}, "this source has 1d, 1wk"),
        (("1d", "1wk"), {"interval": "1d"}, "of 1m only"),
        (("1m", "1d"), {"interval": "5m"}, "of 1m only, not of '5m'"),
        (("1m", "1d"), {"interval": "1m"}, None),
        (("1m", "1d"), {}, None),
    ],
    ids=["no minutes", "days", "of no stream", "minutes", "as ever"],
)
def test_bars_that_never_come_are_not_subscribed_to(
    intervals: tuple[str, ...], interval: dict[str, str], said: str | None
) -> None:
    sockets = table()
    outbox = sockets.open()
    who = Session("client", sockets, outbox, Terms("replay", 10, (), intervals))

    answer = say(who, action="subscribe", type="bars", symbols=["AAPL"], **interval)

    if said is None:
        assert answer["action"] == "subscribed"
    else:
        assert answer["code"] == 109
        assert said in answer["message"]
        assert not outbox.topics


def test_a_refusal_is_of_one_message() -> None:
    everyone = table()
    who, _ = session(everyone)
    who.meet(["NEW"], {"NEW": SymbolUnknown("NEW")})
    assert subscribe(who, "NEW")["code"] == 105

    everyone.meet(["NEW"])  # for another client

    assert subscribe(who, "NEW")["action"] == "subscribed"


@pytest.mark.parametrize(
    "own", [{"uid": 7}, {"ids": [1]}, {"active": True}, {"node": "a"}, {b"trace": 1}]
)
def test_members_of_a_clients_own_are_let_be(own: dict[Any, Any]) -> None:
    who, _ = session(table())
    request = {"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "id": 1} | own

    answer = orjson.loads(who.reply(msgpack.packb(request), 1.0).payload)

    assert answer["action"] == "subscribed"
