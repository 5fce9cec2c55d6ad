"""The front page in a real Chromium: live prices, no error, readable on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from tests.service import Service

_PRICE = re.compile(r"^[\d,]+\.\d\d$")


def test_prices_come_and_change(
    page: Page, service: Service, complaints: list[str], tmp_path: Path
) -> None:
    page.goto(service.url)

    expect(page.get_by_role("status")).to_have_text("live")
    price = page.locator("tr", has_text="AAPL").locator(".price")
    expect(price).to_have_text(_PRICE)
    before = price.text_content()
    expect(price).not_to_have_text(before or "", timeout=15_000)
    expect(page.locator("#source")).to_contain_text("source: replay")
    expect(page.locator("#notice")).to_be_visible()
    page.screenshot(path=tmp_path / "home.png")
    known = httpx.get(f"{service.url}/api/v2/symbols", timeout=30, trust_env=False).json()
    assert page.locator("#prices tr").count() == known["pagination"]["total"] >= 7
    assert not complaints


def test_it_fits_a_phone(page: Page, service: Service, complaints: list[str]) -> None:
    page.set_viewport_size({"width": 380, "height": 740})
    page.goto(service.url)

    expect(page.get_by_role("status")).to_have_text("live")
    overflow = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert overflow is False
    assert not complaints


def test_the_documentation_page_works_without_the_internet(
    page: Page, service: Service, complaints: list[str]
) -> None:
    page.goto(f"{service.url}/docs")

    expect(page.get_by_text("/api/v2/technical-analysis/indicators/{symbol}")).to_be_visible()
    assert not complaints
