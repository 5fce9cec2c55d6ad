"""A service that just started is asked for 300 prices: who subscribes then does not wait for them.

Alerts take bars of each as references, a request each; Yahoo takes 200 ms for an answer here, and
the rate is the default one, so that those take a minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
import websockets.sync.client

from tests.fakes.yahoo import FakeYahoo, serving_in_thread
from tests.fakes.yahoo_data import Market
from tests.service import Service, running_on, wait_until

ASKED = [f"MADE{number}-USD" for number in range(300)]  # whose market never closes
AIM_S = 1.0
MANY = 200  # references that still wait when the answer is there


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeYahoo]:
    market = Market.until(datetime.fromtimestamp(time.time(), UTC).date())
    bars = market.books["AAPL"].record.bars
    for symbol in (*ASKED, "NEVER-USD"):
        market.set_bars(symbol, "1d", bars[-300:])
    with serving_in_thread(market=market, now_s=time.time) as fake:
        fake.latency_s = 0.2
        yield fake


@pytest.fixture(scope="module")
def service(fake: FakeYahoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_on(fake, tmp_path_factory.mktemp("first"), symbols="AAPL") as service:
        yield service


def charts(fake: FakeYahoo) -> int:
    """Return of how many of the symbols asked for the bars were asked for."""
    asked = {s for endpoint, symbols, _ in tuple(fake.log) if endpoint == "chart" for s in symbols}
    return len(asked & set(ASKED))


def answered(socket: websockets.sync.client.ClientConnection, **request: Any) -> float:
    """Return after how many seconds a subscription was answered."""
    began_s = time.monotonic()
    socket.send(orjson.dumps({"action": "subscribe", "id": 1} | request).decode())
    while (told := orjson.loads(socket.recv(timeout=60))).get("id") != 1:
        pass
    assert told["type"] == "subscription", told
    took_s = time.monotonic() - began_s
    sys.stdout.write(f"{request['type']}: {took_s:.2f} s (aim {AIM_S:g} s)\n")
    return took_s


def test_a_subscription_overtakes_the_references_of_alerts(
    service: Service, fake: FakeYahoo
) -> None:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
        quotes = http.get("/api/v2/quotes", params={"symbols": ",".join(ASKED)}).json()
    assert len(quotes["quotes"]) == len(ASKED)
    wait_until(lambda: charts(fake) >= 5, 30, "references are asked for")

    with websockets.sync.client.connect(service.url.replace("http", "ws") + "/ws/realtime") as ws:
        ws.recv()
        took = [
            answered(ws, type="prices", symbols=["NEVER-USD"]),
            answered(ws, type="technical_analysis", symbols=["NEVER-USD"]),
            answered(ws, type="technical_analysis", symbols=[ASKED[-1]]),
        ]

    waiting = len(ASKED) - charts(fake)
    sys.stdout.write(f"references that still wait: {waiting}\n")
    assert waiting >= MANY
    assert all(took_s < 5 * AIM_S for took_s in took), took  # as wait_until: figures tell the rest
