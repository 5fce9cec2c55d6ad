"""Every reader of the hub takes every kind of message, and goes on after what is none."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from actors.alerts.intake import AlertIntake
from actors.alerts.price_alerts import PriceAlerts
from actors.alerts.rules import Reference
from actors.alerts.system import ServiceEvent, service_alert
from actors.alerts.user_rules import UserRules
from actors.feed.client import FeedClient
from actors.hub.client import Follower, HubClient
from actors.indicators.actor import IndicatorActor
from actors.indicators.bar_store import BarStore
from actors.indicators.client import LiveWant
from infra.clock import FakeClock
from infra.messages import (
    ALERTS,
    ENDED,
    SERVICE_ALERT,
    Batch,
    Kind,
    Message,
    Position,
    Snapshot,
)
from infra.metrics import HUB_UNREAD
from infra.sources.facts import SourceFacts
from infra.sources.recorded.recording import RECORDED_TOPICS
from infra.universe import load_universe
from pipelines.recorder import Recorder
from serve.edge.near import NearCache
from serve.ws.outbox import Outbox
from serve.ws.protocol import Session, Terms
from serve.ws.sockets import SocketTable
from tests.contract.test_live_indicators import random_bars
from tests.hub_messages import AT, READING, SAMPLES, alert, price, said
from tests.unit.test_streaming_indicators import Service
from tests.unit.test_user_rules import rule

ROOT = Path(__file__).parents[2]
FACTS = SourceFacts("replay", True, ("1d",))


def intake() -> AlertIntake:
    """What the alert engine follows the hub with, and a rule of each sort."""
    made = UserRules()
    made.put(rule("price > 100 and rsi(14) < 30", id="live"))
    made.put(rule("change_pct > 0.5", id="quotes"))
    book = PriceAlerts(load_universe(None).thresholds, 5.0, 300.0, lambda _: AT.timestamp())
    book.hold("AAPL", Reference("2026-03-03", 100.0, 101.0, 98.0, 200.0, 10.0))
    return AlertIntake(book, made, FakeClock(), [("mailto://a.example", "")])


run = asyncio.Runner().run  # one loop, to which a worker's events belong


class Indicators(IndicatorActor):
    """The actor without its process: what follows the hub, and live values of AAPL."""

    def __init__(self) -> None:
        self.service = Service({("AAPL", "1d"): random_bars(3, 60)})
        run(self.service.worker.want([LiveWant("AAPL")]))
        self._live = self.service.worker
        self._facts, self._clock = FACTS, cast(Any, FakeClock())
        self._bar_store = BarStore()
        self._prices, self._versions, self._outdated = {}, {"AAPL": "v1"}, set()
        self._work, self._unsaid, self._heard_s = asyncio.Event(), True, 0.0


class Clients(SocketTable):
    """Sockets that take everything, in every way."""

    def __init__(self) -> None:
        super().__init__(category_of=lambda _: "stock")
        self.sessions = [self._session(encoding) for encoding in ("json", "msgpack")]

    def _session(self, encoding: str) -> tuple[Session, Outbox]:
        outbox = self.open()
        session = Session(encoding, self, outbox, Terms("replay", 100, ("stock",)))
        for kind in ("all", "alerts", "performance", "tasks"):
            ask(session, type=kind, encoding=encoding)
        ask(session, type="all", symbols=["AAPL"], extended=True)
        return session, outbox


def ask(session: Session, action: str = "subscribe", **more: Any) -> dict[str, Any]:
    text = orjson.dumps({"action": action} | more)
    answer = session.reply(text, 1.0).payload
    return cast(dict[str, Any], orjson.loads(answer)) if answer[:1] == b"{" else {}


def recorder() -> Recorder:
    made = Recorder(cast(FeedClient, None), cast(HubClient, None), FakeClock())
    made._topics = frozenset(kind + "AAPL" for kind in RECORDED_TOPICS)
    return made


def near() -> NearCache:
    return NearCache(100_000, 100, 5.0, FakeClock().monotonic_s)


READERS: dict[str, Callable[[], Follower]] = {
    "AlertIntake": intake,
    "IndicatorActor": Indicators,
    "NearCache": near,
    "Recorder": recorder,
    "SocketTable": Clients,
}


def used(reader: Follower) -> None:
    """Let a reader do what it does with what it kept."""
    if isinstance(reader, NearCache):
        reader.price("AAPL")
        reader.extended_price("AAPL")
    elif isinstance(reader, Indicators):
        run(reader.service.work())
        reader._take_open_bars(["AAPL"])
    elif isinstance(reader, Recorder):
        while not reader._came.empty():
            reader._renewed(reader._came.get_nowait()[1])
    elif isinstance(reader, Clients):
        recovery = {"epoch": reader.position.epoch, "offset": 1}
        for session, outbox in reader.sessions:
            ask(session, type="all", recover=recovery)
            ask(session, type="all", symbols=["AAPL"])
            outbox.take(lambda: 0.0)


def sent(reader: Follower, *messages: Message) -> None:
    """Send messages in each way that the hub has."""
    count = len(messages)
    last = {m.topic: (n, m) for n, m in enumerate(messages, start=1) if m.payload != ENDED}
    reader.on_snapshot(Snapshot(Position("e1", count), tuple(last.values()), messages))
    used(reader)
    reader.on_batch(Batch(Position("e1", 2 * count), messages))
    used(reader)
    reader.on_snapshot(Snapshot(Position("e2", count), tuple(last.values()), messages))
    used(reader)


def unread() -> float:
    return sum(
        sample.value
        for metric in HUB_UNREAD.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


def test_these_are_all_who_read_the_hub() -> None:
    found = {
        node.name
        for layer in ("infra", "actors", "pipelines", "serve")
        for path in (ROOT / layer).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and {"on_snapshot", "on_batch"} <= {getattr(part, "name", "") for part in node.body}
    }
    assert found - {"Follower"} == set(READERS)


def test_there_is_a_sample_of_every_kind() -> None:
    assert {kind: message.kind for kind, message in SAMPLES.items()} == {k: k for k in Kind}


@pytest.mark.parametrize("name", READERS)
def test_every_kind_and_every_end_is_taken(name: str) -> None:
    known = [message for kind, message in SAMPLES.items() if kind is not Kind.UNKNOWN]
    ends = [Message(message.topic, ENDED) for message in SAMPLES.values()]
    before = unread()

    sent(READERS[name](), *known, READING, *ends, *known)

    assert unread() == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3),
    max_leaves=5,
)  # fmt: skip


@st.composite
def bent(draw: st.DrawFn) -> Message:
    """Draw a message that is a little, or wholly, other than those of its kind."""
    message = SAMPLES[draw(st.sampled_from([kind for kind in Kind if kind is not Kind.ENDED]))]
    body = orjson.loads(message.payload)
    name = draw(st.sampled_from(sorted(body)))
    how = draw(st.integers(0, 4))
    if how == 0:
        return Message(message.topic, draw(st.binary(max_size=30)))
    if how == 1:
        return Message(draw(st.text(max_size=20)), message.payload)
    if how == 2:
        del body[name]
        return Message(message.topic, orjson.dumps(body))
    if how == 3:
        return Message(message.topic, orjson.dumps(draw(json_values)))
    return Message(message.topic, orjson.dumps(body | {name: draw(json_values)}))


@pytest.fixture(scope="module")
def readers() -> dict[str, Follower]:
    return {name: make() for name, make in READERS.items()}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@example(messages=[Message("alerts:AAPL:user", b'{"type":"alert"}')])
@given(messages=st.lists(bent() | st.sampled_from(list(SAMPLES.values())), max_size=8))
def test_no_reader_fails_by_what_it_is_sent(
    readers: dict[str, Follower], name: str, messages: list[Message]
) -> None:
    sent(readers[name], *messages, SAMPLES[Kind.PRICES])


def test_what_cannot_be_read_is_counted_and_what_follows_is_taken() -> None:
    cache, before = near(), unread()

    sent(cache, SAMPLES[Kind.UNKNOWN], Message("data:AAPL", b"{"), price(102.0))

    assert unread() == before + 6
    told = cache.price("AAPL")
    assert told is not None
    assert told["current_price"] == 102.0


# -- what ends ---------------------------------------------------------------------------------


def test_the_end_of_live_values_gives_no_alert_and_loses_none() -> None:
    made = intake()
    ended = SAMPLES[Kind.ENDED]

    made.on_batch(Batch(Position("e", 3), (ended, price(101.0), SAMPLES[Kind.TECHNICAL])))

    assert {pending.alert.rule_id for pending in made.waiting} >= {"live", "quotes"}


def test_rules_of_users_fire_once_there_is_room_for_their_alerts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.alerts.intake._MOST_WAITING", 2)
    made = intake()
    names = ("a", "b", "c", "d")
    for name in names:
        made._rules.put(rule("price crossed_above 100.5", id=name, cooldown_s=3600.0))
    made.on_snapshot(Snapshot(Position("e", 0), ()))
    given: list[str] = []

    def take(value: float) -> int:
        made.on_batch(Batch(Position("e", 1), (price(value), SAMPLES[Kind.TECHNICAL])))
        count = len(made.waiting)
        given.extend(pending.alert.rule_id for pending in made.waiting)
        return count

    take(100.0)
    made.waiting.clear()
    given.clear()
    counts = []
    for _ in range(6):
        counts.append(take(101.0))
        made.waiting.clear()

    assert max(counts) == 2
    assert sorted(set(given) & set(names)) == list(names)
    assert len(given) == len(set(given))


def test_alerts_beyond_what_may_wait_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.alerts.intake._MOST_WAITING", 1)
    made, free = intake(), intake()
    for one in (made, free):
        one._rules.remove("quotes")
        one.on_snapshot(Snapshot(Position("e", 0), ()))
    service = service_alert(ServiceEvent("store", "away", "error", 1.0), "replay", True, 1.0)
    made.add([service] * 2)  # of the service: few, and never held back
    made.on_batch(Batch(Position("e", 1), (price(110.0),)))
    assert made.waiting == [service] * 2

    given = []
    for _ in range(6):
        made.waiting.clear()
        made.on_batch(Batch(Position("e", 1), (price(110.0),)))
        given += [pending.alert.alert_type for pending in made.waiting]

    monkeypatch.undo()
    free.on_batch(Batch(Position("e", 1), (price(110.0),)))
    assert len(given) > 1
    assert given == [pending.alert.alert_type for pending in free.waiting]


def test_a_client_that_comes_back_is_not_sent_the_end_of_a_topic() -> None:
    table = Clients()
    table.on_snapshot(Snapshot(Position("e1", 1), ()))
    live = SAMPLES[Kind.TECHNICAL]
    table.on_batch(Batch(Position("e1", 3), (live, Message(live.topic, ENDED))))
    outbox = table.open()
    session = Session("back", table, outbox, Terms("replay", 100))

    recovery = {"epoch": "e1", "offset": 1}
    answer = ask(session, type="technical_analysis", symbols=["AAPL"], recover=recovery)

    assert answer["recovered"] is True
    (frame,) = outbox.take(lambda: 0.0)
    assert orjson.loads(frame.payload)["type"] == "technical_analysis_update"


# -- alerts ------------------------------------------------------------------------------------


def test_an_alert_engine_that_restarted_tells_the_same_hub_nothing_again() -> None:
    hub = Snapshot(Position("e1", 40), ((12, alert(7)), (30, alert(9, "IBM")), (40, price(1.0))))
    made = intake()
    made.on_snapshot(hub)
    assert made.told == 9

    made.on_snapshot(Snapshot(Position("e2", 0), ()))
    assert made.told is None  # that one knows of none
    made.on_snapshot(Snapshot(Position("e3", 1), ((1, alert(10)),)))
    assert made.told is None  # nor this one, though the last one's alert came there before us
    made.on_snapshot(Snapshot(Position("e2", 0), ()))
    made.told = 9
    made.on_snapshot(Snapshot(Position("e2", 5), ((5, price(1.0)),)))
    assert made.told == 9


def test_a_client_that_comes_back_has_no_alert_twice_though_it_was_told_again() -> None:
    table = Clients()
    table.on_snapshot(Snapshot(Position("e1", 1), ()))
    table.on_batch(Batch(Position("e1", 2), (alert(7),)))
    table.on_batch(Batch(Position("e1", 4), (alert(7), alert(8))))
    outbox = table.open()
    session = Session("back", table, outbox, Terms("replay", 100))

    ask(session, type="alerts", recover={"epoch": "e1", "offset": 2})

    frames = [orjson.loads(frame.payload) for frame in outbox.take(lambda: 0.0)]
    assert [frame["alert_id"] for frame in frames] == [8]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ([{"type": "all"}], 1),
        ([{"type": "alerts"}], 1),
        ([{"type": "performance"}], 1),
        ([{"type": "alerts"}, {"type": "performance"}], 1),
        ([{"type": "all"}, {"type": "alerts", "symbols": ["AAPL"]}], 1),
        ([{"type": "all", "symbols": ["AAPL"]}], 1),
        ([{"type": "prices", "symbols": ["AAPL"]}], 0),
    ],
)
@pytest.mark.parametrize(
    "message",
    [said(SERVICE_ALERT, type="service_alert", event="triggered", alert={}), alert(7)],
    ids=["service", "price"],
)
def test_an_alert_comes_once_whatever_a_client_takes(
    wanted: list[dict[str, Any]], count: int, message: Message
) -> None:
    table = SocketTable()
    table.on_snapshot(Snapshot(Position("e1", 1), ((1, price(1.0)),)))
    outbox = table.open()
    session = Session("c", table, outbox, Terms("replay", 100))
    for one in wanted:
        assert ask(session, **one)["action"] == "subscribed"

    table.on_batch(Batch(Position("e1", 2), (message,)))

    takes_price_alerts = any(one["type"] in ("all", "alerts") for one in wanted)
    if message.topic.startswith(ALERTS) and not takes_price_alerts:
        count = 0
    assert len(outbox.take(lambda: 0.0)) == count
