"""The protocol's description, its page and the server say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml

from infra.errors import RangeInvalid
from infra.messages import Position, Snapshot
from serve.ws import connection, wire
from serve.ws.frames import ENCODINGS
from serve.ws.outbox import MODES
from serve.ws.protocol import Session, Terms
from serve.ws.requests import MEMBERS, TYPES
from serve.ws.sockets import SocketTable
from tests.unit.test_sockets import told

ROOT = Path(__file__).parents[2]
SPEC: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
SCHEMAS: dict[str, Any] = SPEC["components"]["schemas"]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "serve" / "ws").glob("*.py"))


def check(message: dict[str, Any], name: str) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": SPEC["components"]}
    jsonschema.validate(message, schema)


def session() -> Session:
    table = SocketTable()
    table.on_snapshot(Snapshot(Position("e1", 1), ((1, told("AAPL", 1.0)),)))
    return Session("c", table, table.open(), Terms("replay", 2, ("stock",)))


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        ({"action": "subscribe", "type": "prices", "symbols": ["AAPL"]}, "subscription"),
        (
            {
                "action": "subscribe",
                "type": "prices",
                "symbols": ["AAPL"],
                "recover": {"epoch": "e1", "offset": 1},
            },
            "subscription",
        ),
        ({"action": "unsubscribe"}, "subscription"),
        ({"action": "heartbeat"}, "pong"),
        ({"action": "get_status"}, "status"),
        ({"action": "get_current_prices"}, "current_prices"),
        ({"action": "get_price_history", "symbol": "AAPL"}, "price_history"),
    ],
)
def test_each_action_is_answered_as_described(request_: dict[str, Any], name: str) -> None:
    check(request_, "request")
    answer = orjson.loads(session().reply(orjson.dumps(request_ | {"id": 1}), 1.0).payload)

    check(answer, name)
    check(answer, "answer")


def test_the_welcome_is_as_described() -> None:
    check(orjson.loads(session().welcome().payload), "welcome")


def test_what_is_refused_is_refused_by_the_description_too() -> None:
    for request in (
        {"action": "fly"},
        {"action": "subscribe", "type": "prices"},
        {"action": "subscribe", "type": "nothing", "symbols": ["AAPL"]},
        {"action": "subscribe", "type": "prices", "symbols": "AAPL"},
        {"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "mode": "some"},
        {"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "max_rate_hz": -1},
        {"action": "get_price_history", "symbol": "AAPL", "limit": 101},
    ):
        answer = orjson.loads(session().reply(orjson.dumps(request), 1.0).payload)
        check(answer, "error")
        with pytest.raises(jsonschema.ValidationError):
            check(request, "request")


def test_actions_types_and_options_are_all_described() -> None:
    described = {s["$ref"].rpartition("/")[2] for s in SCHEMAS["request"]["oneOf"]}
    assert {name: set(SCHEMAS[name]["properties"]) for name in described} == {
        action: set(members) for action, members in MEMBERS.items()
    }
    assert set(SCHEMAS["type"]["enum"]) == set(TYPES)
    properties = SCHEMAS["subscribe"]["properties"]
    assert set(properties["mode"]["enum"]) == set(MODES)
    assert set(properties["encoding"]["enum"]) == set(ENCODINGS)
    for name in (*described, *properties):
        assert f"{name}" in PAGE, name
    (welcome,) = re.findall(r'"available_actions":(\[.*?\])', PAGE)
    assert orjson.loads(welcome) == list(MEMBERS)


def test_every_error_code_is_in_the_description_and_on_the_page() -> None:
    raised = {int(code) for code in re.findall(r"ProtocolError\((1\d\d)", SOURCES)}
    refused = session()
    text = orjson.dumps({"action": "subscribe", "type": "technical_analysis", "symbols": ["AAPL"]})
    asked = refused.asked(text)
    assert asked is not None
    refused.meet_live({asked.wants[0]: RangeInvalid(("query", "x"), "no", 1)})
    raised |= {orjson.loads(refused.reply(text, 1.0).payload)["code"], 107}

    assert raised == set(SCHEMAS["error"]["properties"]["code"]["enum"])
    assert {int(code) for code in re.findall(r"^\| (1\d\d) \|", PAGE, re.MULTILINE)} == raised


def test_every_close_code_is_in_the_description_and_on_the_page() -> None:
    codes = {
        value
        for name, value in (*vars(connection).items(), *vars(wire).items())
        if name.isupper() and isinstance(value, int) and value >= 4_000
    }
    assert codes == set(SPEC["x-close-codes"])
    assert {int(c) for c in re.findall(r"^\| (4\d\d\d) \|", PAGE, re.MULTILINE)} == codes
    for code, facts in SPEC["x-close-codes"].items():
        assert facts["reconnect"] is (code < 4_500)
