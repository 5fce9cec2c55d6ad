"""What is made is called made wherever a source is named, in the same words."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pyarrow
import pytest
from pyarrow import parquet

from actors.alerts.firing import Pending, give
from infra.bars import BarSeries
from infra.db.alerts import Alert
from infra.settings import LIVE_SOURCES
from infra.sources.facts import SourceFacts
from infra.sources.origin import ORIGINS, named, origin_of
from infra.sources.replay import load_records
from infra.sources.runs import Run
from serve.cli.up import overview
from serve.rest import formats
from serve.rest.symbols import source_state
from serve.state import State
from serve.web.pages import ASSETS
from serve.ws.protocol import Session, Terms
from serve.ws.sockets import SocketTable
from tests.local import LocalService
from tests.settings import made_settings

UNREAL = sorted(set(ORIGINS) - set(LIVE_SOURCES) - {"import"})
NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
TARGET = "https://hooks.example.com/x"


@pytest.fixture(params=[*sorted(ORIGINS), "replay+import"])
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of everything that prices may be of."""
    return str(request.param)


async def sent_text(local: LocalService, source: str, symbol: str) -> str:
    """Return what goes outside of an alert."""
    alert = Alert(
        "price_rise", symbol, "price_rise", "prev_close", 100.0, 104.0, 3.0, 4.0, "info",
        "it rose", source, source not in LIVE_SOURCES, NOW, NOW,
    )  # fmt: skip
    pending = Pending(alert, "2026-03-04", timedelta(days=1), targets=((TARGET, "s"),))
    assert await local.store.write(lambda unit: give(unit, pending, Run(source)))
    number = await local.store.read(lambda unit: unit.alerts.newest())
    found = await local.store.read(lambda unit: unit.deliveries.of_notice(f"alert-{number}"))
    text: str = orjson.loads(found[0].body)["text"]
    return text


async def test_an_alert_that_is_sent_outside_says_what_its_prices_are(
    local: LocalService, name: str
) -> None:
    text = await sent_text(local, name, "AAPL")

    assert text == "it rose" + named(name)
    assert (origin_of(name).label in text) == (name.split("+")[0] in UNREAL)


async def test_an_alert_about_the_service_is_of_no_prices(local: LocalService) -> None:
    assert await sent_text(local, "simulated", "") == "it rose"


def test_a_table_of_bars_names_it_in_its_headers_and_in_itself(name: str) -> None:
    series = BarSeries(load_records()["AAPL"].bars[:5], "v1", name, None)

    answer = formats.response(series, "parquet", "AAPL")

    label = origin_of(name).label
    assert answer.headers["x-source-label"] == label
    table = parquet.read_table(io.BytesIO(bytes(answer.body)))
    assert table.schema.metadata[b"source_label"].decode() == label
    arrow = formats.response(series, "arrow", "AAPL")
    schema = pyarrow.ipc.open_stream(bytes(arrow.body)).schema
    assert schema.metadata[b"source_label"].decode() == label


@pytest.mark.parametrize("source", ["replay", "simulated", "yahoo"])
def test_the_lines_of_the_start_name_it(source: str) -> None:
    state = State(1, 0.0, "http://127.0.0.1:8000", "", "", {}, "", 0.0)

    table = overview(made_settings(source=source), state)

    cells = [list(column.cells) for column in table.columns]
    assert cells[1][cells[0].index("source")] == origin_of(source).label


def test_the_first_message_of_a_socket_names_it(name: str) -> None:
    table = SocketTable()
    welcome = Session("c", table, table.open(), Terms(name, 10)).welcome()

    assert orjson.loads(welcome.payload)["message"].endswith(origin_of(name).label)


def test_what_pages_show_names_it(local: LocalService, name: str) -> None:
    facts = SourceFacts(name, name not in LIVE_SOURCES, ("1d",))

    source = source_state(None, replace(local.services, source=facts))

    origin = origin_of(name)
    assert (source["name"], source["label"]) == (name, origin.label)
    assert (source["notice"], source["is_made"]) == (origin.notice, origin.is_made)


def test_pages_have_no_words_of_their_own_for_it() -> None:
    files = [*ASSETS.glob("*.html"), *ASSETS.glob("*.js")]
    assert files
    for file in files:
        found = re.findall(r"replay|simulated|made ticks|market of today", file.read_text())
        assert not found, file.name
