"""The alert routes: rules made, read, changed and deleted; what cannot be, and why."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.local import LocalService

RULES = "/api/v2/alerts/price"
RULE = {"symbols": ["aapl"], "expression": "price > 200 and rsi(14) < 30"}


async def made(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post(RULES, json=RULE | more)
    assert answer.status_code == 201, answer.text
    rule: dict[str, Any] = answer.json()
    return rule


async def test_a_rule_from_its_making_to_its_end(client: httpx.AsyncClient) -> None:
    rule = await made(client, name="cheap", targets=["https://example.org/hook?token=s3cret"])
    secret = rule.pop("secret")
    assert secret.startswith("whsec_")
    assert (rule["symbols"], rule["repeat"], rule["enabled"]) == (["AAPL"], "once", True)
    assert rule["targets"] == ["https://example.org/…"]

    assert (await client.get(f"{RULES}/{rule['id']}")).json() == rule
    page = (await client.get(RULES)).json()
    assert page["items"] == [rule]
    assert page["pagination"]["total"] == 1
    changed = await client.put(f"{RULES}/{rule['id']}", json=RULE | {"repeat": "again"})
    assert (changed.json()["repeat"], changed.json()["id"]) == ("again", rule["id"])
    off = await client.put(f"{RULES}/{rule['id']}/disable")
    assert off.json()["enabled"] is False
    on = await client.put(f"{RULES}/{rule['id']}/enable")
    assert on.json()["enabled"] is True
    gone = await client.delete(f"{RULES}/{rule['id']}")
    assert gone.json()["id"] == rule["id"]
    assert (await client.get(RULES)).json()["items"] == []
    assert "s3cret" not in str([page, changed.json(), gone.json()])


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"expression": "price >"}, 422, "column"),
        ({"expression": "price > close[3]"}, 422, "values of now"),
        ({"expression": "moon(3) > 1"}, 422, "moon"),
        ({"symbols": []}, 422, "symbols"),
        ({"symbols": ["NOPE"]}, 404, "NOPE"),
        ({"targets": ["ftp://example.org"]}, 422, "http"),
        ({"targets": ["http://127.0.0.1/x"]}, 422, "private"),
        ({"targets": ["http://[::1]/x"]}, 422, "private"),
        ({"targets": ["http://localhost:9/x"]}, 422, "private"),
        ({"targets": ["http://127.1/x"]}, 422, "four numbers"),
        ({"targets": ["http://2130706433/x"]}, 422, "four numbers"),
        ({"targets": ["http://0177.0.0.1/x"]}, 422, "four numbers"),
        ({"targets": ["http://0x7f000001/x"]}, 422, "four numbers"),
        ({"targets": ["http://a.example/x", "http://127.0.0.1./x"]}, 422, "four numbers"),
        ({"targets": ["http://a_b..example/x"]}, 422, "no host"),
        ({"repeat": "often"}, 422, "repeat"),
        ({"hysteresis_pct": -1}, 422, "hysteresis_pct"),
        ({"cooldown_s": "soon"}, 422, "cooldown_s"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_reason(
    client: httpx.AsyncClient, more: dict[str, Any], status: int, words: str
) -> None:
    answer = await client.post(RULES, json=RULE | more)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert (await client.get(RULES)).json()["items"] == []


@pytest.mark.parametrize(
    ("more", "field", "column", "words"),
    [
        ({"expression": "price > 200 and\n rsj(14) < 30"}, "expression", 18, "use rsi"),
        ({"expression": "prise > 200"}, "expression", 1, "use price"),
        ({"expression": "price > close[3]"}, "expression", 15, "values of now"),
        ({"expression": "price > rsi(0)"}, "expression", 9, "from 2 to 500"),
        ({"expression": "price > 1 &\n 2"}, "expression", 11, "use `and`"),
        ({"expression": "price >"}, "expression", 8, "the end"),
        ({"expression": "rsi(14) > 1", "interval": "3d"}, "interval", None, "3d"),
        ({"expression": "vwap > 1"}, "expression", None, "vwap"),
        ({"targets": ["http://127.0.0.1/x"]}, "targets", None, "private"),
    ],
)
async def test_what_is_wrong_is_named_by_field_and_place(
    client: httpx.AsyncClient, more: dict[str, Any], field: str, column: int | None, words: str
) -> None:
    made_once = await made(client)
    for method, path in (("POST", RULES), ("PUT", f"{RULES}/{made_once['id']}")):
        answer = await client.request(method, path, json=RULE | more)

        assert answer.status_code == 422, answer.text
        (item,) = answer.json()["detail"]
        assert item["loc"] == ["body", field]
        assert item["ctx"].get("column") == column
        assert words in item["msg"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_rule_that_is_not_there(client: httpx.AsyncClient, method: str) -> None:
    body = RULE if method == "PUT" else None
    answer = await client.request(method, f"{RULES}/none", json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"]["code"] == "alert_rule_unknown"


async def test_more_rules_than_there_may_be(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    object.__setattr__(local.services, "settings", local.settings.model_copy(
        update={"max_alert_rules": 1}
    ))  # fmt: skip
    await made(client)
    answer = await client.post(RULES, json=RULE)
    assert answer.status_code == 422
    assert "the limit is 1" in answer.text


async def test_given_alerts_are_listed(client: httpx.AsyncClient, local: LocalService) -> None:
    prices = await local.services.prices(local.source.symbols())
    assert await local.services.alerts.check([p for p in prices.values() if isinstance(p, dict)])
    items = (await client.get("/api/v2/alerts/fired?hours=87600")).json()["items"]
    numbers = [item["alert_id"] for item in items]
    assert numbers == sorted(numbers, reverse=True)
    (*_, last) = items
    assert last["synthetic"] is True
    later = (await client.get(f"/api/v2/alerts/fired?after_id={numbers[-1]}")).json()["items"]
    assert [item["alert_id"] for item in later] == sorted(numbers[:-1])
    of_one = await client.get(f"/api/v2/alerts/fired?after_id=0&symbol={last['symbol'].lower()}")
    assert {item["symbol"] for item in of_one.json()["items"]} == {last["symbol"]}
    empty = await client.get(f"/api/v2/alerts/fired/{numbers[0]}/deliveries")
    assert empty.json() == {"items": []}


async def test_alerts_of_a_run_that_is_over_are_not_listed(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    prices = await local.services.prices(local.source.symbols())
    assert await local.services.alerts.check([p for p in prices.values() if isinstance(p, dict)])
    listed = "/api/v2/alerts/fired"
    assert (await client.get(listed)).json()["items"]
    settings = local.settings.begun(local.clock.time_s() + 1)
    object.__setattr__(local.services, "settings", settings)
    local.clock.advance(2)
    for query in ("", "?after_id=0", "?hours=87600"):
        assert (await client.get(listed + query)).json()["items"] == []
