"""The live page in a real Chromium: prices, chart, alerts, a stream that breaks, a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, WebSocketRoute, expect

from tests.service import Service

_PRICE = re.compile(r"^[\d,]+\.\d\d$")
_NUMBER = re.compile(r"^-?[\d,]+\.\d\d")


def opened(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/ws/demo")
    expect(page.get_by_role("status")).to_have_text("live", timeout=15_000)


def bars(page: Page) -> int:
    return int(page.locator("#chart").get_attribute("data-bars") or 0)


def drawn(page: Page) -> bytes:
    return page.locator("#chart").screenshot()


def test_prices_chart_and_values_are_live(
    page: Page, service: Service, complaints: list[str], tmp_path: Path
) -> None:
    opened(page, service)

    row = page.locator(".row", has_text="IBM")
    expect(row.locator(".price")).to_have_text(_PRICE, timeout=15_000)
    expect(page.locator("#chart")).not_to_have_attribute("data-bars", "0", timeout=15_000)
    assert bars(page) > 200
    for value in ("rsi", "sma20", "sma50"):
        expect(page.locator(f"#{value}")).to_have_text(_NUMBER, timeout=15_000)
    before, price = drawn(page), page.locator("#price").text_content() or ""
    expect(page.locator("#price")).not_to_have_text(price, timeout=15_000)
    page.wait_for_function("() => new Promise(done => requestAnimationFrame(() => done(true)))")
    assert drawn(page) != before
    expect(page.locator("#alerts li").first).to_be_visible(timeout=60_000)
    page.screenshot(path=tmp_path / "demo.png")
    assert not complaints


def test_another_symbol_is_chosen_by_pointer_keyboard_and_filter(
    page: Page, service: Service, complaints: list[str]
) -> None:
    opened(page, service)

    page.locator(".row", has_text="MSFT").click()
    expect(page.locator("#symbol")).to_have_text("MSFT")
    expect(page.locator("#name")).to_have_text("Microsoft Corporation")
    expect(page.locator("#rsi")).to_have_text(_NUMBER, timeout=15_000)
    page.locator("#rows").press("ArrowUp")
    expect(page.locator("#symbol")).to_have_text("META")
    page.locator("#filter").fill("apple")
    expect(page.locator(".row:visible")).to_have_count(1)
    page.locator("#filter").press("Enter")
    expect(page.locator("#symbol")).to_have_text("AAPL")
    page.locator("#filter").fill("zzz")
    expect(page.locator("#none")).to_be_visible()
    assert not complaints


def test_a_line_can_be_taken_off(page: Page, service: Service, complaints: list[str]) -> None:
    opened(page, service)
    expect(page.locator("#chart")).not_to_have_attribute("data-bars", "0", timeout=15_000)

    box = page.get_by_label("bollinger(20,2)")
    expect(box).to_be_checked()
    box.uncheck()
    expect(box).not_to_be_checked()
    assert not complaints


def test_what_is_looked_at_stays_when_bars_come_anew(
    page: Page, service: Service, complaints: list[str]
) -> None:
    routes: list[WebSocketRoute] = []

    def through(route: WebSocketRoute) -> None:
        route.connect_to_server()
        routes.append(route)

    def seen() -> int:
        return int(page.locator("#chart").get_attribute("data-seen") or 0)

    page.route_web_socket(re.compile("/ws/realtime"), through)
    opened(page, service)
    expect(page.locator("#chart")).not_to_have_attribute("data-bars", "0", timeout=15_000)
    whole = seen()
    assert whole > 200
    page.locator("#chart").hover()
    for _ in range(12):
        page.mouse.wheel(0, -400)
        page.wait_for_function(
            "() => new Promise(done => requestAnimationFrame(() => done(true)))"
        )
    chosen = seen()
    assert chosen < whole / 2

    with page.expect_response(re.compile("/indicators/")):
        routes[0].send(json.dumps({"event": "data_restarted"}))
    page.wait_for_function("() => new Promise(done => setTimeout(() => done(true), 300))")
    assert abs(seen() - chosen) <= 2

    page.locator(".row", has_text="MSFT").click()
    expect(page.locator("#symbol")).to_have_text("MSFT")
    page.wait_for_function(
        f"() => Number(document.getElementById('chart').dataset.seen) > {whole // 2}"
    )
    assert not complaints


def test_a_broken_stream_comes_back_and_recovers(
    page: Page, service: Service, complaints: list[str]
) -> None:
    sockets: list[tuple[WebSocketRoute, list[dict[str, Any]]]] = []

    def through(route: WebSocketRoute) -> None:
        server, said = route.connect_to_server(), list[dict[str, Any]]()
        sockets.append((route, said))

        def on_message(text: str | bytes) -> None:
            said.append(json.loads(text))
            server.send(text)

        route.on_message(on_message)

    page.route_web_socket(re.compile("/ws/realtime"), through)
    opened(page, service)
    expect(page.locator(".row .price").first).to_have_text(_PRICE, timeout=15_000)

    sockets[0][0].close(code=4008, reason="slow")
    expect(page.locator("#counts")).to_contain_text("1 drops", timeout=15_000)
    expect(page.get_by_role("status")).to_have_text("live", timeout=15_000)
    expect(page.locator("#counts")).to_contain_text("3 recovered", timeout=15_000)

    places = [message["recover"] for message in sockets[1][1] if "recover" in message]
    assert len(places) == 3  # prices, alerts, live values
    assert all(place["offset"] > 0 and place["epoch"] for place in places)
    assert not complaints


def test_a_closing_for_good_is_said_and_not_tried_again(page: Page, service: Service) -> None:
    page.route_web_socket(
        re.compile("/ws/realtime"), lambda route: route.close(code=4504, reason="too many")
    )
    page.goto(f"{service.url}/ws/demo")
    expect(page.get_by_role("status")).to_have_text("closed: too many", timeout=15_000)


def test_data_is_text_and_never_markup(page: Page, service: Service) -> None:
    hostile = "<img src=x onerror=document.title='owned'>"

    def evil(route: WebSocketRoute) -> None:
        def on_message(text: str | bytes) -> None:
            if json.loads(text).get("type") == "alerts":
                alert = {
                    "type": "alert",
                    "alert_id": 1,
                    "message": hostile,
                    "alert_type": hostile,
                    "severity": "info",
                    "triggered_at": "2026-11-25T09:00:00+00:00",
                }
                route.send(json.dumps(alert))

        route.on_message(on_message)

    page.route_web_socket(re.compile("/ws/realtime"), evil)
    page.goto(f"{service.url}/ws/demo")
    item = page.locator("#alerts li")
    expect(item).to_contain_text(hostile, timeout=15_000)
    assert item.locator("img").count() == 0
    assert page.title() == "Finstage live"


def test_it_fits_a_phone(page: Page, service: Service, complaints: list[str]) -> None:
    page.set_viewport_size({"width": 380, "height": 740})
    opened(page, service)

    expect(page.locator("#chart")).not_to_have_attribute("data-bars", "0", timeout=15_000)
    assert page.evaluate("document.documentElement.scrollWidth > innerWidth") is False
    assert not complaints
