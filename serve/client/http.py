"""The market over HTTP: for notebooks and programs of any Python, without Ray."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import numpy as np
import orjson
import pandas as pd

from infra.errors import (
    AccessError,
    ActorError,
    ActorSlow,
    FinstageError,
    KeyRequired,
    NotBuilt,
    OriginRefused,
    RateLimited,
    RequestError,
    SourceError,
    SourceLimited,
    SourceMalformed,
    SourceUnavailable,
    StoreError,
    StoreUnsure,
    SymbolUnknown,
)
from pipelines.driver.market import AsyncMarket, Market, Quoted, failure, history_frame
from serve.client.place import Place, place_of

_ANALYSIS = "/api/v2/technical-analysis"
_NS_PER_S = 10**9
_PAUSES_S = (0.2, 0.4, 0.8)  # between the tries of a call while the service restarts
_LONGEST_WAIT_S = 5.0  # an answer that asks for more is an error at once
_PASSING = (ActorError.code, ActorSlow.code)
_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_KEY_NAME = re.compile(r"key '([^']*)'")
_BY_CODE: Mapping[str, type[FinstageError]] = {
    kind.code: kind
    for kind in (
        RequestError,
        NotBuilt,
        AccessError,
        KeyRequired,
        OriginRefused,
        SourceError,
        SourceUnavailable,
        StoreError,
        StoreUnsure,
        ActorError,
    )
} | {SourceLimited.code: SourceError, SourceMalformed.code: SourceError}
_BY_STATUS: Mapping[int, type[FinstageError]] = {
    kind.status_code: kind
    for kind in (RequestError, NotBuilt, AccessError, KeyRequired, ActorError)
}


class Client(Market):
    """Finstage at `url`, as plain calls; `async with` gives the same methods awaited.

    Without `url` it is the service of this machine: FINSTAGE_URL, what runs on FINSTAGE_DATA_DIR,
    else FINSTAGE_PORT. `api_key` is needed where the service asks for one. No answer within
    `timeout_s` seconds is an ActorError; a service that is restarting or busy is asked up to three
    times more. What its source or its store does not give is an error at once.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        place = place_of(url, api_key)
        self.url = place.url
        super().__init__(partial(open_market, place.url, place.key, timeout_s))

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


@asynccontextmanager
async def open_market(
    url: str, api_key: str | None, timeout_s: float
) -> AsyncIterator[AsyncMarket]:
    """Give the REST API at `url` as `AsyncMarket`; nothing is sent before the first call."""
    headers = {} if api_key is None else {"x-api-key": api_key}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=timeout_s, trust_env=False
    ) as http:
        yield HttpMarket(http, url, timeout_s)


class HttpMarket(AsyncMarket):
    """The REST API as `AsyncMarket`."""

    def __init__(self, http: httpx.AsyncClient, url: str, timeout_s: float) -> None:
        self._http = http
        self._url = url
        self._timeout_s = timeout_s

    async def _history(
        self,
        symbol: str,
        period: str | None,
        start: date | None,
        end: date | None,
        interval: str,
        adjusted: bool,
    ) -> pd.DataFrame:
        given = {"period": period, "start": start, "end": end}
        query = {name: str(value) for name, value in given.items() if value is not None}
        query |= {"interval": interval, "adjusted": str(adjusted).lower()}
        body = await self._get(f"/api/v2/prices/{quote(symbol)}/history", query, symbol)
        return history_frame(
            np.array(body["timestamps"], np.int64) * _NS_PER_S,
            body,
            body["volume"],
            symbol=body["symbol"],
            source=body["source"],
            data_version=body["data_version"],
        )

    async def _indicators(
        self, symbol: str, period: str, indicators: str, interval: str, method: str
    ) -> dict[str, Any]:
        query = {
            "period": period,
            "indicators": indicators,
            "interval": interval,
            "method": method,
        }
        return await self._get(f"{_ANALYSIS}/indicators/{quote(symbol)}", query, symbol)

    async def _analyses(self, symbols: Sequence[str], period: str) -> dict[str, dict[str, Any]]:
        body = {"symbols": list(symbols), "period": period}
        path = f"{_ANALYSIS}/batch/indicators"
        request = self._http.build_request("POST", path, json=body)
        try:
            answer = await self._answer(request, symbols[0])
        except SymbolUnknown as first:  # said only if none of them is known
            others = {s: failure(s, SymbolUnknown(s)) for s in symbols[1:]}
            return {first.symbol: failure(first.symbol, first), **others}
        results: dict[str, dict[str, Any]] = answer["results"]
        return results

    async def _quotes(self, symbols: Sequence[str]) -> dict[str, Quoted]:
        body = await self._get(f"{_ANALYSIS}/prices/batch", {"symbols": ",".join(symbols)})
        return {
            symbol: Quoted(error=result["error"]["code"])
            if "error" in result
            else Quoted(result["current_price"], result["as_of"], result["source"])
            for symbol, result in body["results"].items()
        }

    async def _get(self, path: str, query: Mapping[str, str], symbol: str = "") -> dict[str, Any]:
        return await self._answer(self._http.build_request("GET", path, params=query), symbol)

    async def _answer(self, request: httpx.Request, symbol: str) -> dict[str, Any]:
        """Return the body of the answer; raises what `answered_error` makes of another one."""
        response = await self._send(request)
        for pause_s in _PAUSES_S:
            wait_s = _retry_after_s(response)
            if not _is_passing(response) or (wait_s or 0.0) > _LONGEST_WAIT_S:
                break
            await anyio.sleep(_jittered_s(wait_s, pause_s))
            response = await self._send(request)
        body = _json_object(response)
        if response.is_success and body is not None:
            return body
        raise answered_error(response, self._url, symbol)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Return the answer, 503 for one that broke off: the service goes, or comes back."""
        try:
            return await self._http.send(request)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Place(self._url).unreachable() from None
        except httpx.TimeoutException:
            raise ActorError(f"{self._url} did not answer within {self._timeout_s:g} s") from None
        except _BROKEN:
            return httpx.Response(503)


def answered_error(response: httpx.Response, url: str, symbol: str = "") -> FinstageError:
    """Return the error that an answer tells of, `symbol` being the one asked for."""
    status, body = response.status_code, _json_object(response)
    detail = None if body is None else body.get("detail")
    if isinstance(detail, list):
        return RequestError("; ".join(_invalid(item) for item in detail))
    if not isinstance(detail, dict):
        if status == 503:
            return ActorError(f"{url} is not ready (503), try again")
        return FinstageError(f"{url} answered {status}, not as Finstage does: is the URL right?")
    code, message = str(detail.get("code")), str(detail.get("message"))
    if code == SymbolUnknown.code:
        return SymbolUnknown(symbol, (detail.get("context") or {}).get("nearest", ()))
    if status == RateLimited.status_code:
        named = _KEY_NAME.search(message)
        return RateLimited(named[1] if named else "", _retry_after_s(response) or 1.0)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, FinstageError)
    return kind(message)


def _is_passing(response: httpx.Response) -> bool:
    """Return whether the service itself is away for a moment, not its source or its store.

    What answers in its place, HAProxy or Ray Serve, gives no code of ours.
    """
    if response.status_code != 503:
        return False
    detail = (_json_object(response) or {}).get("detail")
    return not isinstance(detail, dict) or detail.get("code") in _PASSING


def _jittered_s(said_s: float | None, pause_s: float) -> float:
    """Return how long to wait: what the service says, or `pause_s`, with jitter."""
    if said_s is None:
        return pause_s * random.uniform(0.5, 1.5)
    return said_s * random.uniform(1.0, 1.25)


def _invalid(item: Mapping[str, Any]) -> str:
    """Return one sentence on one parameter; it names what is allowed where that is a list."""
    message, allowed = str(item.get("msg")), (item.get("ctx") or {}).get("allowed")
    if item.get("type") == "parameter_invalid" or item.get("type") == "range_invalid":
        return message
    name = str((item.get("loc") or ("request",))[-1])
    if allowed:
        return f"{name} {item.get('input')!r} is not allowed; use one of {', '.join(allowed)}"
    return f"{name}: {message}"


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return the seconds of `Retry-After`; None without them, or where it is a date."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
