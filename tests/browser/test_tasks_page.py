"""The page of tasks in a real Chromium: submit, watch, cancel, retry."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.service import Service

WAITS, FAILS = "tests.fakes.tasks.waits", "tests.fakes.tasks.fails"


def opened(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/tasks")
    expect(page.get_by_role("status")).to_have_text("live", timeout=15_000)


def submit(page: Page, name: str, arguments: str) -> str:
    page.locator("#name").select_option(name)
    page.locator("#arguments").fill(arguments)
    page.get_by_role("button", name="Submit").click()
    said = page.locator("#said")
    expect(said).to_contain_text(f"{name} is queued as")
    return (said.text_content() or "").rpartition(" ")[2]


def test_a_task_is_submitted_watched_and_cancelled(
    page: Page, service: Service, complaints: list[str]
) -> None:
    opened(page, service)

    task_id = submit(page, WAITS, '{"seconds": 60}')
    row = page.locator(f'#now tr[data-id="{task_id}"]')
    expect(row).to_contain_text("running", timeout=15_000)
    expect(row.locator("progress")).to_have_attribute("value", "40", timeout=15_000)
    expect(row).to_contain_text("waiting")
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_have_count(0, timeout=15_000)
    ended = page.locator(f'#history tr[data-id="{task_id}"]')
    expect(ended).to_contain_text("cancelled", timeout=15_000)
    assert not complaints


def test_what_failed_is_tried_anew(page: Page, service: Service, complaints: list[str]) -> None:
    opened(page, service)
    task_id = submit(page, FAILS, '{"reason": "<img src=x onerror=alert(1)>"}')
    row = page.locator(f'#history tr[data-id="{task_id}"]')
    expect(row).to_contain_text("<img src=x onerror=alert(1)>", timeout=20_000)
    tries = httpx.get(f"{service.url}/api/tasks/task/{task_id}", trust_env=False).json()["data"]

    row.get_by_role("button", name="Retry").click()

    def ended_again() -> bool:
        answer = httpx.get(f"{service.url}/api/tasks/task/{task_id}", trust_env=False)
        found = answer.json()["data"]
        return bool(found["completed_at"] and found["completed_at"] != tries["completed_at"])

    for _ in range(200):
        if ended_again():
            break
        page.wait_for_timeout(100)
    assert ended_again()
    page.locator("#status").select_option("failed")
    expect(row).to_contain_text("failed")
    assert page.locator("img[src=x]").count() == 0
    assert not complaints


def test_results_are_shown_and_mistakes_told(
    page: Page, service: Service, complaints: list[str]
) -> None:
    opened(page, service)
    task_id = submit(page, "process_dataset", '{"symbol": "AAPL"}')
    row = page.locator(f'#history tr[data-id="{task_id}"]')
    row.get_by_role("button", name="Result").click(timeout=20_000)
    expect(page.locator("#result")).to_contain_text("price_range")
    page.get_by_role("button", name="Close").click()

    page.locator("#arguments").fill("{not json")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#said")).to_have_text("the arguments are no JSON object")
    complaints.clear()
    page.locator("#arguments").fill('{"speed": 3}')
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#said")).to_contain_text(re.compile("speed: not taken"))
    assert all("422" in complaint for complaint in complaints), complaints


def test_nothing_runs_by_one_click_that_takes_away_for_good(
    page: Page, service: Service, complaints: list[str]
) -> None:
    submissions: list[str] = []
    page.on("request", lambda r: submissions.append(r.url) if r.method == "POST" else None)
    opened(page, service)
    name, dialog = page.locator("#name"), page.locator("#sure-dialog")
    expect(name.locator("option", has_text="cleanup_data")).to_have_count(1)
    expect(name).to_have_value("")
    page.get_by_role("button", name="Submit").click()

    name.select_option("cleanup_data")
    expect(page.locator("#about")).to_contain_text("days_to_keep")
    page.locator("#arguments").fill('{"days_to_keep": 36500}')
    page.get_by_role("button", name="Submit").click()
    expect(dialog).to_contain_text("delete")
    expect(dialog).to_contain_text("36500")
    page.keyboard.press("Enter")  # what has the focus is the harmless one
    expect(dialog).to_be_hidden()
    assert submissions == []

    page.get_by_role("button", name="Submit").click()
    dialog.get_by_role("button", name="Run it", exact=True).click()
    expect(page.locator("#said")).to_contain_text("cleanup_data is queued as")
    assert len(submissions) == 1
    assert not complaints


# The words in a table that stand on more than one line; a name has its words between dots.
_BROKEN = """() => [...document.querySelectorAll("td, td button")].flatMap((box) => {
  const broken = [], walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());)
    for (const word of node.data.matchAll(/[^\\s._]+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].map((rect) => Math.round(rect.top)));
      if (tops.size > 1) broken.push(word[0]);
    }
  return broken;
})"""


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_word_is_broken(
    page: Page, service: Service, complaints: list[str], tmp_path: Path, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    opened(page, service)
    submit(page, FAILS, '{"reason": "Input should be a valid list of symbols"}')
    task_id = submit(page, WAITS, '{"seconds": 30}')
    row = page.locator(f'#now tr[data-id="{task_id}"]')
    expect(row).to_contain_text("running", timeout=15_000)
    expect(page.locator("#history")).to_contain_text("valid list of symbols", timeout=20_000)

    page.screenshot(path=tmp_path / f"tasks-{width}.png", full_page=True)
    assert page.evaluate(_BROKEN) == []
    assert page.evaluate("document.documentElement.scrollWidth > innerWidth") is False
    row.get_by_role("button", name="Cancel").click()
    assert not complaints


def test_it_fits_a_phone_and_is_worth_a_picture(
    page: Page, service: Service, complaints: list[str], tmp_path: Path
) -> None:
    opened(page, service)
    task_id = submit(page, WAITS, '{"seconds": 30}')
    row = page.locator(f'#now tr[data-id="{task_id}"]')
    expect(row.locator("progress")).to_have_attribute("value", "40", timeout=15_000)
    page.screenshot(path=tmp_path / "tasks.png")
    page.set_viewport_size({"width": 380, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth > innerWidth") is False
    page.screenshot(path=tmp_path / "phone.png")
    row.get_by_role("button", name="Cancel").click()
    assert not complaints
