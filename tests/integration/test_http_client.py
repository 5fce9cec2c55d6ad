"""The HTTP client against real servers on loopback: a scripted one, and the API itself."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import orjson
import pandas as pd
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

import finstage
from actors.feed.client import FeedClient
from actors.indicators.client import IndicatorClient
from infra.errors import (
    AccessError,
    ActorError,
    FinstageError,
    KeyRequired,
    NotBuilt,
    OriginRefused,
    RateLimited,
    RequestError,
    SourceError,
    SourceUnavailable,
    SymbolUnknown,
)
from pipelines.driver.connect import ActorMarket
from tests.local import LocalService

ROOT = Path(__file__).parents[2]
INDICATORS = {"symbol": "AAPL", "indicators": {"rsi": {"current": 55.0, "previous": None}}}


@dataclass
class Answer:
    """What the scripted server says once; with status 0 it says nothing and hangs up."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass
class Asked:
    """What the scripted server was asked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


class ScriptedServer:
    """An ASGI application that gives its answers in turn, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[Asked] = []
        self.reply: Callable[[Asked], Answer] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = Asked(
            scope["method"],
            scope["raw_path"].decode(),
            parse_qs(scope["query_string"].decode()),
            {name.decode(): value.decode() for name, value in scope["headers"]},
            orjson.loads(body) if body else None,
        )
        self.asked.append(asked)
        await self._say(self._answer(asked), send)

    def _answer(self, asked: Asked) -> Answer:
        if self.reply is not None:
            return self.reply(asked)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _say(self, answer: Answer, send: Send) -> None:
        time.sleep(answer.delay_s)  # noqa: ASYNC251 - its loop serves one test alone
        content = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
        headers = [(n.encode(), v.encode()) for n, v in answer.headers.items()]
        if answer.status == 0:  # promises more than it says, so that the connection breaks
            headers.append((b"content-length", b"999"))
        start = {"type": "http.response.start", "status": answer.status or 200}
        await send(start | {"headers": headers})
        await send({"type": "http.response.body", "body": content})


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application from a thread of its own; give its URL."""
    config = uvicorn.Config(
        app, "127.0.0.1", 0, log_level="critical", lifespan="off", ws="none", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def script() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def url(script: ScriptedServer) -> Iterator[str]:
    with served(script) as where:
        yield where


@pytest.fixture
def client(url: str) -> Iterator[finstage.Client]:
    with finstage.Client(url, timeout_s=5.0) as market:
        yield market


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, LocalService]]:
    service = LocalService(tmp_path_factory.mktemp("api"))
    with served(service.app) as where:
        yield where, service


def refusal(code: str, message: str, **context: Any) -> dict[str, Any]:
    """Return an error's body as the service says it."""
    detail = {"code": code, "message": message, "retryable": False, "request_id": "r1"}
    return {"detail": detail | ({"context": context} if context else {})}


# -- ways to call it ---------------------------------------------------------------------------


def test_a_call_works_without_a_with(script: ScriptedServer, url: str) -> None:
    script.answers = [Answer(INDICATORS)]
    client = finstage.Client(url)

    assert client.indicators("aapl") == INDICATORS

    client.close()
    assert client.indicators("aapl") == INDICATORS
    client.close()


async def test_a_plain_call_works_where_a_loop_runs(script: ScriptedServer, url: str) -> None:
    script.answers = [Answer(INDICATORS)]

    with finstage.Client(url) as market:
        assert market.indicators("AAPL") == INDICATORS


async def test_methods_are_awaited_in_async_with(script: ScriptedServer, url: str) -> None:
    script.answers = [Answer(INDICATORS)]

    async with finstage.Client(url) as market:
        assert await market.indicators("AAPL") == INDICATORS


def test_threads_share_one_client(script: ScriptedServer, client: finstage.Client) -> None:
    script.answers = [Answer(INDICATORS)]
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.indicators("AAPL"))) for _ in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [INDICATORS] * 8


def test_a_client_that_nobody_closes_does_not_keep_the_program(
    script: ScriptedServer, url: str
) -> None:
    script.answers = [Answer(INDICATORS)]
    code = f"import finstage; c = finstage.Client({url!r}); print(c.indicators('AAPL')['symbol'])"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "AAPL\n", "")


def test_a_key_goes_along_and_is_not_shown(script: ScriptedServer, url: str) -> None:
    script.answers = [Answer(INDICATORS)]

    with finstage.Client(url + "/", api_key="secret-key") as market:
        market.indicators("AAPL")

    assert script.asked[0].headers["x-api-key"] == "secret-key"
    assert repr(market) == f"Client('{url}')"


def test_a_url_needs_its_scheme() -> None:
    with pytest.raises(RequestError, match="must start with http"):
        finstage.Client("127.0.0.1:8000")


# -- what is asked -----------------------------------------------------------------------------


def test_a_symbol_with_signs_is_quoted_in_the_path(
    script: ScriptedServer, client: finstage.Client
) -> None:
    script.answers = [Answer(INDICATORS)]

    client.indicators("^gspc", "5d", "rsi,sma", "1wk", "reference")

    asked = script.asked[0]
    assert asked.path == "/api/v2/technical-analysis/indicators/%5EGSPC"
    assert asked.query == {
        "period": ["5d"],
        "indicators": ["rsi,sma"],
        "interval": ["1wk"],
        "method": ["reference"],
    }


def test_long_lists_go_in_several_calls(script: ScriptedServer, client: finstage.Client) -> None:
    names = [f"S{number}" for number in range(1_201)]

    def analysed(asked: Asked) -> Answer:
        return Answer({"results": {s: {"symbol": s} for s in asked.body["symbols"]}})

    script.reply = analysed
    analyses = client.analyze(names, period="5d")

    assert list(analyses) == names
    assert [len(asked.body["symbols"]) for asked in script.asked] == [500, 500, 201]
    assert {asked.body["period"] for asked in script.asked} == {"5d"}


def test_a_malformed_symbol_is_not_sent(script: ScriptedServer, client: finstage.Client) -> None:
    quotes = client.quotes(["A,B", "no way"])

    assert list(quotes["error"]) == ["symbol_unknown", "symbol_unknown"]
    assert script.asked == []


# -- what goes wrong ---------------------------------------------------------------------------


def test_an_unknown_symbol_names_its_neighbours(
    script: ScriptedServer, client: finstage.Client
) -> None:
    script.answers = [Answer(refusal("symbol_unknown", "…", nearest=["AAPL"]), 404)]

    with pytest.raises(SymbolUnknown, match="'APPL' is not known; nearest known: AAPL") as caught:
        client.history("APPL")

    assert caught.value.nearest == ["AAPL"]


def test_a_list_of_unknown_symbols_is_no_error(
    script: ScriptedServer, client: finstage.Client
) -> None:
    script.answers = [Answer(refusal("symbol_unknown", "…", nearest=["AAPL"]), 404)]

    analyses = client.analyze(["APPL", "NOPE"])

    assert analyses["APPL"]["error"]["context"] == {"nearest": ["AAPL"]}
    assert analyses["NOPE"]["error"]["code"] == "symbol_unknown"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            {
                "type": "literal_error",
                "loc": ["query", "period"],
                "msg": "Input should be '1d' or '5d'",
                "input": "7q",
                "ctx": {"allowed": ["1d", "5d"]},
            },
            "period '7q' is not allowed; use one of 1d, 5d",
        ),
        (
            {
                "type": "parameter_invalid",
                "loc": ["query", "interval"],
                "msg": "interval '1h' is not allowed; use one of 1d, 1wk",
                "ctx": {"allowed": ["1d", "1wk"]},
            },
            "interval '1h' is not allowed; use one of 1d, 1wk",
        ),
        (
            {"type": "bool_parsing", "loc": ["query", "adjusted"], "msg": "not a boolean"},
            "adjusted: not a boolean",
        ),
    ],
)
def test_a_refused_parameter_says_what_is_allowed(
    script: ScriptedServer, client: finstage.Client, item: dict[str, Any], message: str
) -> None:
    script.answers = [Answer({"detail": [item]}, 422)]

    with pytest.raises(RequestError) as caught:
        client.indicators("AAPL")

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "key_required", KeyRequired),
        (403, "origin_refused", OriginRefused),
        (403, "forbidden", AccessError),
        (422, "request_invalid", RequestError),
        (501, "not_implemented", NotBuilt),
        (500, "internal", FinstageError),
        (404, "not_found", FinstageError),
    ],
)
def test_refusals_become_our_errors(
    script: ScriptedServer,
    client: finstage.Client,
    status: int,
    code: str,
    kind: type[FinstageError],
) -> None:
    script.answers = [Answer(refusal(code, "because"), status)]

    with pytest.raises(FinstageError, match="^because$") as caught:
        client.indicators("AAPL")

    assert type(caught.value) is kind
    assert len(script.asked) == 1


def test_a_key_over_its_limit_is_told_when_to_come_back(
    script: ScriptedServer, client: finstage.Client
) -> None:
    body = refusal("rate_limited", "key 'bot' is over its limit; retry in 2 s")
    script.answers = [Answer(body, 429, {"retry-after": "2"})]

    with pytest.raises(RateLimited, match="key 'bot' is over its limit; retry in 2 s") as caught:
        client.indicators("AAPL")

    assert caught.value.retry_after_s == 2.0


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(refusal("service_restarting", "later"), 503, {"retry-after": "0"}),
        Answer(b"<h1>503</h1>", 503),
        Answer(b"cut", 0),
    ],
    ids=["said", "from the proxy", "broken off"],
)
def test_a_restarting_service_is_asked_again(
    script: ScriptedServer, client: finstage.Client, trouble: Answer
) -> None:
    script.answers = [trouble, trouble, Answer(INDICATORS)]

    assert client.indicators("AAPL") == INDICATORS
    assert len(script.asked) == 3


def test_the_service_says_how_long_to_wait(
    script: ScriptedServer, client: finstage.Client
) -> None:
    later = Answer(refusal("service_restarting", "later"), 503, {"retry-after": "0.5"})
    script.answers = [later, Answer(INDICATORS)]

    started_s = time.monotonic()
    client.indicators("AAPL")

    assert time.monotonic() - started_s >= 0.5


@pytest.mark.parametrize(
    ("code", "kind", "wait_s"),
    [
        ("source_unavailable", SourceUnavailable, "600"),
        ("source_unavailable", SourceUnavailable, "0"),
        ("source_limited", SourceError, "0"),
        ("store_busy", ActorError, "1"),
        ("service_restarting", ActorError, "60"),
    ],
)
def test_what_is_away_for_long_or_no_part_of_the_service_is_an_error_at_once(
    script: ScriptedServer,
    client: finstage.Client,
    code: str,
    kind: type[FinstageError],
    wait_s: str,
) -> None:
    script.answers = [Answer(refusal(code, "later"), 503, {"retry-after": wait_s})]

    with pytest.raises(FinstageError, match="^later$") as caught:
        client.indicators("AAPL")

    assert type(caught.value) is kind
    assert len(script.asked) == 1


@pytest.mark.parametrize("code", ["service_restarting", "service_busy"])
def test_a_service_that_stays_away_is_an_error_after_four_tries(
    script: ScriptedServer, client: finstage.Client, code: str
) -> None:
    script.answers = [Answer(refusal(code, "later"), 503, {"retry-after": "0"})]

    with pytest.raises(FinstageError, match="^later$") as caught:
        client.indicators("AAPL")

    assert type(caught.value) is ActorError
    assert len(script.asked) == 4


def test_no_service_is_told_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    with (
        finstage.Client(f"http://127.0.0.1:{port}") as market,
        pytest.raises(ActorError, match=f"no Finstage at http://127.0.0.1:{port}.*`make run`"),
    ):
        market.indicators("AAPL")


def test_a_silent_service_is_given_up(script: ScriptedServer, url: str) -> None:
    script.answers = [Answer(INDICATORS, delay_s=0.5)]

    with (
        finstage.Client(url, timeout_s=0.1) as market,
        pytest.raises(ActorError, match="did not answer within 0.1 s"),
    ):
        market.indicators("AAPL")


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, []), (404, b"nothing")])
def test_another_server_is_recognised(
    script: ScriptedServer, client: finstage.Client, status: int, body: Any
) -> None:
    script.answers = [Answer(body, status)]

    with pytest.raises(FinstageError, match="is the URL right"):
        client.indicators("AAPL")


# -- the API itself ----------------------------------------------------------------------------


async def test_http_and_actors_answer_alike(api: tuple[str, LocalService]) -> None:
    # Given the API over HTTP, and the same actors asked directly
    where, service = api
    actors = ActorMarket(cast(FeedClient, service.feed), cast(IndicatorClient, service.indicators))
    symbols = ["aapl", "NOPE", "msft", "b@d"]

    async with finstage.Client(where) as http:
        # When both are asked for bars, then frames are equal in all their types
        for question in (
            {"symbol": "AAPL"},
            {"symbol": "ibm", "period": "max", "interval": "1wk"},
            {"symbol": "AAPL", "start": "2012-01-01", "end": "2012-02-01", "adjusted": False},
            {"symbol": "AAPL", "start": "1900-01-01", "end": "1900-01-02"},
        ):
            ours, theirs = await http.history(**question), await actors.history(**question)
            pd.testing.assert_frame_equal(ours, theirs)
            assert ours.attrs == theirs.attrs

        # And for prices
        pd.testing.assert_frame_equal(await http.quotes(symbols), await actors.quotes(symbols))

        # And for values, but for the time of the answer and ids of requests
        assert await http.indicators("AAPL") == await actors.indicators("AAPL")
        assert without_moments(await http.analyze(symbols)) == without_moments(
            await actors.analyze(symbols)
        )
        assert set((await http.analyze(["NOPE"]))["NOPE"]) == {"symbol", "error"}


async def test_http_and_actors_compute_any_indicator_alike(api: tuple[str, LocalService]) -> None:
    where, service = api
    actors = ActorMarket(cast(FeedClient, service.feed), cast(IndicatorClient, service.indicators))

    async with finstage.Client(where) as http:
        asked = "RSI(21), bbands(20,2.5),sma(500)"
        mine, theirs = [await m.indicators("AAPL", indicators=asked) for m in (http, actors)]

    assert mine == theirs
    assert set(mine["indicators"]) == {"rsi(21)", "bbands(20,2.5,2.5,0)", "sma(500)"}


async def test_http_and_actors_refuse_alike(api: tuple[str, LocalService]) -> None:
    where, service = api
    actors = ActorMarket(cast(FeedClient, service.feed), cast(IndicatorClient, service.indicators))

    async with finstage.Client(where) as http:
        for market in (http, actors):
            with pytest.raises(SymbolUnknown, match="nearest known: AAPL"):
                await market.history("APPL")
            with pytest.raises(SymbolUnknown):
                await market.indicators("b@d")
            for question in (
                {"period": "7q"},
                {"interval": "1h"},
                {"method": "best"},
                {"indicators": "rsy(3)"},
            ):
                with pytest.raises(RequestError, match="is not allowed; use one of"):
                    await market.indicators("AAPL", **question)
            with pytest.raises(RequestError, match="is not allowed; use one of"):
                await market.analyze(["AAPL"], period="7q")


def without_moments(analyses: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return analyses without the members that differ from call to call."""
    plain = {}
    for symbol, analysis in analyses.items():
        plain[symbol] = {n: v for n, v in analysis.items() if n not in ("timestamp", "error")}
        if "error" in analysis:
            plain[symbol]["error"] = {
                n: v for n, v in analysis["error"].items() if n != "request_id"
            }
    return plain
