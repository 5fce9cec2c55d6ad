"""What is sent is read, or refused with the place: no parameter, body or date is passed over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import BaseModel

from serve.rest.routing import Route
from tests.local import LocalService

JSON = {"content-type": "application/json"}
CHANGING = {"POST", "PUT", "DELETE", "PATCH"}
HALVES = [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b"NaN", b"9" * 30, b"[" * 9_000]


def contexts(local: LocalService) -> Iterator[RouteContext]:
    """Yield the routes that are documented."""
    for context in iter_route_contexts(local.app.routes):
        if isinstance(context.original_route, APIRoute) and context.include_in_schema:
            yield context


def changing(local: LocalService, reads_body: bool) -> list[tuple[str, str, list[str]]]:
    """Return method, URL and the query's names of routes that read a body, or none."""
    found = []
    for context in contexts(local):
        names = [field.alias for field in context.dependant.query_params]
        for method in CHANGING & (context.methods or set()):
            if (context.body_field is not None) is reads_body:
                found.append((method, url_of(context.path or ""), names))
    return found


def url_of(path: str) -> str:
    return re.sub(r"\{.*?\}", "AAPL", path)


def only(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 422, (answer.request.url, answer.text)
    (item,) = answer.json()["detail"]
    return dict(item)


def test_every_route_is_of_the_kind_that_looks_at_what_it_is_sent(local: LocalService) -> None:
    assert {type(context.original_route) for context in contexts(local)} == {Route}


@pytest.mark.parametrize("half", HALVES)
async def test_json_that_no_string_or_number_holds_is_refused_everywhere(
    client: httpx.AsyncClient, local: LocalService, half: bytes
) -> None:
    routes = changing(local, reads_body=True)
    assert len(routes) >= 22
    for method, url, _ in routes:
        for body in (half, b'{"name":%b}' % half, b"[%b]" % half, b'{"a":{"b":[%b]}}' % half):
            answer = await client.request(method, url, content=body, headers=JSON)
            assert only(answer)["type"] == "json_invalid", (url, body[:20])


async def test_a_body_of_another_type_names_the_header(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    for method, url, _ in changing(local, reads_body=True):
        form = await client.request(method, url, data={"a": "b"})
        assert only(form)["loc"] == ["header", "content-type"]
        assert "Content-Type: application/json" in only(form)["msg"]


async def test_an_empty_body_of_another_type_is_answered(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}  # what curl -d '' sends
    for method, url, _ in changing(local, reads_body=True):
        async with asyncio.timeout(60):
            answer = await client.request(method, url, content=b"", headers=form)
        assert answer.status_code < 500, url


@pytest.mark.parametrize(
    "body",
    [b"[%b1]" % (b"1," * 50_000), b'{"symbols":[%b1]}' % (b"1," * 50_000),
     b'{"symbols":["AAPL"],%b"x":1}' % b"".join(b'"k%d":1,' % n for n in range(9_000))],
    ids=["a list", "a list within", "names"],
)  # fmt: skip
async def test_what_is_wrong_many_times_over_is_told_briefly(
    client: httpx.AsyncClient, local: LocalService, body: bytes
) -> None:
    for method, url, _ in changing(local, reads_body=True):
        answer = await client.request(method, url, content=body, headers=JSON)
        assert len(answer.content) < 10_000, url


async def test_a_body_without_a_type_is_json(client: httpx.AsyncClient) -> None:
    url = "/api/v2/technical-analysis/screen"
    answer = await client.post(url, content=b'{"expression":"close > 1"}')

    assert "content-type" not in answer.request.headers
    assert answer.json()["matched_symbols"] > 0


async def test_a_body_that_a_route_does_not_read_is_refused(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    routes = changing(local, reads_body=False)
    assert len(routes) > 20
    for method, url, names in routes:
        for body in (b'{"aggressive":true}', b"[1]", b"x", b"{"):
            item = only(await client.request(method, url, content=body, headers=JSON))
            assert item["type"] == "body_invalid"
            assert all(name in item["msg"] for name in names)


def misspelled(name: str) -> Iterator[str]:
    yield name[:2] + name[3:]  # a letter is missing
    yield name + "s"
    yield name.upper()


async def test_a_parameter_that_is_nearly_one_of_the_route_is_refused(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    asked = 0
    for context in contexts(local):
        names = {field.alias for field in context.dependant.query_params}
        (method, *_) = sorted(context.methods or {"GET"})
        for name in names:
            for wrong in misspelled(name):
                if len(name) >= 5 and wrong not in names:
                    asked += 1
                    answer = await client.request(
                        method, url_of(context.path or ""), params={wrong: "1"}
                    )
                    item = only(answer)
                    assert (item["type"], item["loc"]) == (
                        "parameter_unknown", ["query", wrong],
                    )  # fmt: skip
                    assert item["ctx"]["nearest"] in names
    assert asked > 100


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("from", "start"), ("to", "end"), ("perod", "period"), ("timeframe", "interval"),
     ("start_date", "start")],
)  # fmt: skip
async def test_words_of_others_are_known(
    client: httpx.AsyncClient, wrong: str, right: str
) -> None:
    answer = await client.get("/api/v2/prices/AAPL/history", params={wrong: "2020-01-01"})

    assert only(answer)["ctx"]["nearest"] == right


@pytest.mark.parametrize("name", ["_", "t", "v", "ts", "unknown", "utm_source", "nocache"])
async def test_what_is_near_to_nothing_is_let_be(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get("/api/v2/prices/AAPL/history", params={name: "1"})

    assert answer.status_code == 200


def dates(node: Any, name: str = "") -> Iterator[str]:
    """Yield the names in a schema that are dates."""
    if isinstance(node, dict):
        if node.get("format") == "date":
            yield name
        for key, value in node.items():
            yield from dates(value, key if key not in ("anyOf", "schema", "items") else name)
    elif isinstance(node, list):
        for value in node:
            yield from dates(value, name)


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "2262-04-12"])
async def test_a_day_beyond_what_times_hold_is_refused(
    client: httpx.AsyncClient, local: LocalService, day: str
) -> None:
    schema, asked = local.app.openapi(), 0
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                for _ in dates(parameter["schema"]):
                    asked += 1
                    given = {parameter["name"]: day}
                    answer = await client.request(method, url_of(path), params=given)
                    items = answer.json()["detail"]
                    assert answer.status_code == 422, path
                    assert ["query", parameter["name"]] in [item["loc"] for item in items]
    for name, shape in schema["components"]["schemas"].items():
        asked += len(list(dates(shape))) if name.endswith("Request") else 0
    body = {"expression": "close > 1", "as_of": day}
    answer = await client.post("/api/v2/technical-analysis/screen", json=body)
    assert only(answer)["loc"] == ["body", "as_of"]
    assert asked == 5  # start, end, as_of of a ranking and of a screen, date of a report


async def test_one_cache_is_cleared_by_query_or_body(client: httpx.AsyncClient) -> None:
    for prefix in ("/api/memory", "/system/memory"):
        url = f"{prefix}/cache/clear"
        by_body = await client.post(url, json={"cache_name": "price_data"})
        by_query = await client.post(url, params={"cache_name": "price_data"})
        assert by_body.json()["cleared_cache"] == by_query.json()["cleared_cache"] == "price_data"
        for wrong in (b"{", b'{"cache":"price_data"}', b'"price_data"', b"cache_name=price_data"):
            answer = await client.post(url, content=wrong)
            assert answer.status_code == 422, wrong
        both = await client.post(
            url, params={"cache_name": "news"}, json={"cache_name": "default"}
        )
        assert only(both)["loc"] == ["body", "cache_name"]
        every = await client.post(url)
        assert every.json()["cleared_caches"] == "all"


async def test_no_parameter_that_is_not_read_clears_all_caches(client: httpx.AsyncClient) -> None:
    for prefix in ("/api/memory", "/system/memory"):
        for name in ("name", "cache", "only", "x"):
            answer = await client.post(f"{prefix}/cache/clear", params={name: "price_data"})
            assert only(answer)["loc"] == ["query", name]
            assert only(answer)["ctx"]["nearest"] == "cache_name"


async def test_the_input_of_a_refusal_is_what_was_sent(client: httpx.AsyncClient) -> None:
    url, deep = f"{TA}/screen", b"[" * 500 + b"]" * 500
    json_of: dict[bytes, str | None] = {
        b'{"expression":{"a":[null,true]}}': '{"a":[null,true]}',
        b'{"expression":"close > 1","as_of":"01/08/2012"}': "01/08/2012",
        b'{"as_of":null}': None,  # expression is missing: nothing was sent
        b"{bad": None,
        b'{"expression":%b}' % deep: None,  # deeper than JSON is written
    }
    for body, wanted in json_of.items():
        items = (await client.post(url, content=body, headers=JSON)).json()["detail"]
        assert [item.get("input") for item in items] == [wanted], body


@pytest.mark.parametrize("day", ["01/08/2012", "yesterday", "2012-13-01", "2012-08-01T10:00"])
async def test_a_date_in_another_spelling_is_told_ours(
    client: httpx.AsyncClient, day: str
) -> None:
    answer = await client.get("/api/v2/prices/AAPL/history", params={"start": day})

    assert "YYYY-MM-DD" in only(answer)["msg"]
    assert only(answer)["input"] == day


async def test_a_history_without_bars_says_where_there_are_some(
    client: httpx.AsyncClient,
) -> None:
    url = "/api/v2/prices/AAPL/history"
    late = (await client.get(url, params={"start": "2030-08-01"})).json()
    whole = (await client.get(url, params={"period": "max"})).json()

    assert late["data_points"] == 0
    assert late["available_from"] == whole["available_from"] == whole["sessions"][0]
    assert late["available_to"] == whole["available_to"] == whole["sessions"][-1]


async def test_what_is_allowed_are_names_only(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{TA}/indicators/AAPL", params={"indicators": "rsy(14)"})

    item = only(answer)
    assert "rsi" in item["ctx"]["allowed"]
    assert all(name.isidentifier() for name in item["ctx"]["allowed"])
    assert item["msg"].endswith("or see /api/v2/technical-analysis/catalog")


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a type, and in what their members are."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for part in get_args(kind):
        yield from models(part)


def bodies(context: RouteContext) -> list[type[BaseModel]]:
    """Return the models of what a route reads as body."""
    field = context.body_field
    return [] if field is None else list(models(field.field_info.annotation))


def test_every_body_has_exactly_the_members_that_are_documented(local: LocalService) -> None:
    found = {model for context in contexts(local) for model in bodies(context)}

    assert len(found) >= 15
    assert {model for model in found if model.model_config.get("extra") != "forbid"} == set()


TA = "/api/v2/technical-analysis"


@pytest.mark.parametrize(
    ("url", "body", "wrong"),
    [
        (f"{TA}/batch/indicators", {"symbols": ["AAPL"]}, "perod"),
        (f"{TA}/analysis/comprehensive", {"symbols": ["AAPL"]}, "save_result"),
        ("/api/v2/symbols", {"symbols": ["AAPL"]}, "symbol"),
        ("/api/v2/alerts/price", {"symbols": ["AAPL"], "expression": "price > 1"}, "cooldown"),
        ("/api/tasks/submit", {"task_name": "cleanup_data"}, "delay"),
    ],
)
async def test_a_member_that_nothing_reads_is_refused(
    client: httpx.AsyncClient, url: str, body: dict[str, Any], wrong: str
) -> None:
    assert (await client.post(url, json=body)).status_code < 300
    answer = await client.post(url, json=body | {wrong: 1})

    assert answer.status_code == 422
    item = answer.json()["detail"][0]
    assert (item["type"], item["loc"][-1]) == ("extra_forbidden", wrong)


async def test_what_an_object_carries_is_not_read_from_the_query_beside_it(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    values = {"period": "1y", "batch_size": "3", "save_results": "true", "check_interval": "60"}
    values |= {"task_name": "cleanup_data", "priority": "low", "args": "[]", "kwargs": "{}"}
    whole: dict[str, Any] = {
        f"{TA}/batch/indicators": {"symbols": ["AAPL"]},
        f"{TA}/analysis/comprehensive": {"symbols": ["AAPL"]},
        "/api/tasks/submit": {"task_name": "cleanup_data"},
        "/api/v2/alerts/monitoring/start": {"check_interval": 60},
        "/api/v2/optimization/monitoring/start": {"check_interval": 60},
    }
    asked = 0
    for context in contexts(local):
        carried = {name for model in bodies(context) for name in model.model_fields}
        for name in carried.intersection(f.alias for f in context.dependant.query_params):
            url = str(context.path)
            if not url.endswith("/cache/clear"):  # takes either, and both if they agree
                asked += 1
                answer = await client.post(url, params={name: values[name]}, json=whole[url])
                assert only(answer)["loc"] == ["query", name]
                assert "in the body" in only(answer)["msg"]
    assert asked >= 8
