"""What pages say of a source and of prices that are to come; the API's answers are made here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from infra.sources.origin import ORIGINS, origin_of
from serve.web.pages import ASSETS, HEADERS

SITE = "http://finstage.test"
PAGES = {"home": "/", "demo": "/ws/demo"}
LIMITED = {
    "cause": "limited",
    "text": "Yahoo refuses (429)",
    "since": "2026-11-30T12:00:00+00:00",
    "retry_at": "2026-11-30T12:00:10+00:00",
    "retry_after_s": 10.0,
}
UNKNOWN = {
    "cause": "symbol_unknown",
    "text": "symbol 'NOPE' is not known",
    "retry_at": None,
    "retry_after_s": None,
}
WAITING = {
    "cause": "waiting",
    "text": "its first price is to come",
    "retry_at": None,
    "retry_after_s": None,
}


@dataclass
class Site:
    """The pages' files, and an API whose answer about symbols the test sets."""

    page: Page
    origin: str = "yahoo"
    trouble: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    sockets: list[WebSocketRoute] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    reads: int = 0

    def open(self, name: str) -> None:
        self.page.route(f"{SITE}/**", self._answer)
        self.page.route_web_socket(re.compile("/ws/realtime"), self._listen)
        self.page.goto(SITE + PAGES[name])

    def row(self, symbol: str, no_price: dict[str, Any] | None = None) -> None:
        facts = {"name": f"{symbol} Inc.", "category": "stock", "monitored": True}
        self.rows.append({"symbol": symbol, "source": self.origin, "no_price": no_price} | facts)

    def tell(self, message: dict[str, Any]) -> None:
        self.sockets[-1].send(json.dumps(message))

    def pass_s(self, seconds: int) -> None:
        """Let the page's clock run; what it asks for then is answered when this returns."""
        self.page.clock.run_for(1_000 * seconds)
        self.page.evaluate("fetch('/api/v2/last').then(() => 0)")

    def _listen(self, socket: WebSocketRoute) -> None:
        self.sockets.append(socket)
        socket.on_message(lambda text: self.said.append(json.loads(text)))

    def _answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(SITE).partition("?")[0]
        files = {"/": "home.html", "/ws/demo": "demo.html"}
        if path == "/api/v2/symbols":
            self._symbols(route)
        elif path.startswith("/api/"):
            route.fulfill(status=503, json={"detail": {"message": "Yahoo refuses (429)"}})
        else:
            file = ASSETS / files.get(path, path.removeprefix("/assets/"))
            route.fulfill(path=file, headers=HEADERS | {"content-type": _type(file.name)})

    def _symbols(self, route: Route) -> None:
        self.reads += route.request.method == "GET"
        if route.request.method == "POST":
            (symbol,) = json.loads(route.request.post_data or "")["symbols"]
            self.added.append(symbol)
            self.row(symbol.upper(), self.trouble)
        status = "ok" if self.trouble is None else "degraded"
        source = asdict(origin_of(self.origin)) | {"name": self.origin, "synthetic": False}
        source |= {"status": status, "trouble": self.trouble}
        route.fulfill(json={"items": self.rows, "source": source, "pagination": {}})


def _type(name: str) -> str:
    ends = {"html": "text/html", "css": "text/css", "svg": "image/svg+xml"}
    return ends.get(name.rpartition(".")[2], "text/javascript")


@pytest.fixture
def site(page: Page) -> Site:
    return Site(page)


@pytest.fixture(params=PAGES)
def opened(request: pytest.FixtureRequest, site: Site) -> Callable[[], None]:
    """Return what opens each page."""
    return lambda: site.open(request.param)


@pytest.mark.parametrize("name", sorted(ORIGINS))
def test_a_page_says_what_prices_are_in_the_words_of_their_source(
    site: Site, opened: Callable[[], None], name: str
) -> None:
    site.origin = name
    site.row("AAPL")
    opened()

    origin = ORIGINS[name]
    expect(site.page.locator("#source")).to_have_text(f"source: {origin.label}")
    if origin.notice:
        expect(site.page.locator("#notice")).to_contain_text(origin.notice)
    else:
        expect(site.page.locator("#notice")).to_be_hidden()


def test_rows_say_why_they_have_no_price_and_lose_it_with_the_first(
    site: Site, opened: Callable[[], None], complaints: list[str]
) -> None:
    site.trouble = LIMITED
    site.row("AAPL", LIMITED)
    site.row("NOPE", UNKNOWN)
    opened()

    page = site.page
    expect(page.locator("#state")).to_have_text(re.compile(r"^Yahoo refuses \(429\), tried again"))
    why = page.locator(".why")
    expect(why.nth(0)).to_have_text(re.compile(r"no price yet: Yahoo refuses .*again in \d+ s"))
    expect(why.nth(1)).to_have_text("no price yet: symbol 'NOPE' is not known")

    site.trouble = None
    site.rows[0]["no_price"] = None
    site.tell({"type": "system_status", "event": "source_state", "status": "ok"})
    site.tell(
        {"type": "price_update", "symbol": "AAPL", "current_price": 101.5, "session": "2026-11-30"}
        | {"change_percent": 1.5, "low": 100.0, "high": 102.0, "open": 100.0, "source": "yahoo"}
    )
    expect(page.locator("#state")).to_have_text("live")
    expect(page.get_by_text("101.50").first).to_be_visible()
    expect(page.get_by_text("no price yet: Yahoo")).to_have_count(0)
    assert not [text for text in complaints if "503" not in text]


def test_a_page_without_symbols_works_and_takes_the_first(
    site: Site, opened: Callable[[], None], complaints: list[str]
) -> None:
    site.trouble = LIMITED
    opened()

    page = site.page
    expect(page.locator("#none")).to_have_text("Nothing is monitored yet: add a symbol.")
    page.get_by_label("Add a symbol").fill("meta")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("META", exact=True).first).to_be_visible()
    expect(page.locator("#none")).to_be_hidden()
    assert site.added == ["meta"]
    assert not [text for text in complaints if "503" not in text]


def test_what_no_waiting_mends_is_not_asked_for_again(site: Site) -> None:
    site.row("NOPE", UNKNOWN)
    site.page.clock.install()
    site.open("home")
    expect(site.page.locator(".why")).to_have_text("no price yet: symbol 'NOPE' is not known")

    site.pass_s(600)

    assert site.reads == 1


def test_a_price_that_is_to_come_is_asked_for_ever_less_often_until_it_is_there(
    site: Site,
) -> None:
    site.row("AAPL", WAITING)
    site.page.clock.install()
    site.open("home")
    why = site.page.locator(".why")
    expect(why).to_have_text("no price yet: its first price is to come")

    site.pass_s(4)
    assert site.reads == 2
    for _ in range(10):
        site.pass_s(60)
    assert 8 < site.reads < 15
    site.rows[0]["no_price"] = None
    site.pass_s(61)
    expect(why).to_have_count(0)
    last = site.reads
    site.pass_s(600)
    assert site.reads == last


def live_subscriptions(site: Site) -> int:
    return sum(m["action"] == "subscribe" and m.get("id") == "live" for m in site.said)


def test_live_values_that_were_refused_are_asked_for_again_when_the_source_is_back(
    site: Site,
) -> None:
    site.trouble = LIMITED
    site.row("AAPL", LIMITED)
    site.open("demo")
    page = site.page
    expect(page.locator("#state")).to_have_text(re.compile(r"^Yahoo refuses"))
    before = live_subscriptions(site)
    assert before == 1

    site.tell({"type": "error", "code": 105, "id": "live", "message": "Yahoo refuses (429)"})
    site.trouble = None
    site.tell({"type": "system_status", "event": "source_state", "status": "ok"})

    expect(page.locator("#state")).to_have_text("live")
    expect(page.locator("#state")).to_have_class("badge live")
    assert live_subscriptions(site) == before + 1
