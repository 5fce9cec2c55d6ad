"""Yahoo's endpoints as yfinance asks them, and what makes an answer of each a sensible one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from infra.errors import SourceLimited, SourceMalformed, SourceUnavailable
from infra.sources.yahoo.answers import results
from infra.sources.yahoo.causes import unavailable
from infra.sources.yahoo.http import _CRUMB, UPSTREAM, Hosts, _retry_after_s

_ENDPOINTS = (
    ("/v1/test/getcrumb", "crumb"),
    ("/v10/finance/quoteSummary/", "summary"),
    ("/v7/finance/quote", "quote"),
    ("/ws/fundamentals-timeseries/", "timeseries"),
    ("/v1/finance/search", "search"),
    ("/xhr/ncp", "news"),
)
# What is asked for to get on with it, not for data: yfinance reads these pages itself.
MEANS = ("cookie", "crumb", "consent")
_ROOTS = {"summary": "quoteSummary", "quote": "quoteResponse", "timeseries": "timeseries"}
# Where the list is that an answer without Yahoo's envelope is asked for.
_LISTS = {"search": ("quotes",), "news": ("data", "tickerStream", "stream")}
# Of requests and of curl_cffi, which have no base class for it.
_BROKEN_OFF = ("ChunkedEncodingError", "ContentDecodingError", "IncompleteRead")


def endpoint_of(url: str) -> str:
    """Return the endpoint's name, for metrics; "consent" for all pages not known by name."""
    asked = urlsplit(url)
    if asked.hostname == urlsplit(Hosts().cookie).hostname:
        return "cookie"
    return next((name for path, name in _ENDPOINTS if asked.path.startswith(path)), "consent")


def is_crumb(answer: Any) -> bool:
    """Return whether the answer to "crumb" is one."""
    return answer.status_code == 200 and _CRUMB.fullmatch(answer.text) is not None


def is_refusal(answer: Any) -> bool:
    """Return whether Yahoo does not take the crumb."""
    return answer.status_code in (401, 403)


def checked(ask: Callable[[], Any], url: str, now_s: float) -> Any:
    """Return what `ask` does, the answer of requests or curl_cffi to `url`, if it makes sense.

    A refusal is returned as well, and any page that is but a means. Raises SourceLimited,
    SourceUnavailable, SourceMalformed or SymbolUnknown. `now_s`: Unix seconds.
    """
    try:
        answer = ask()
    except OSError as error:  # those of both libraries are
        name = type(error).__name__
        if name in _BROKEN_OFF:
            raise SourceMalformed("truncated", name) from None
        raise unavailable(error) from None
    _check_status(answer, now_s)
    endpoint = endpoint_of(url)
    if endpoint not in MEANS and not is_refusal(answer):
        _check_content(answer, endpoint, unquote(urlsplit(url).path.rsplit("/", 1)[-1]))
    return answer


def _check_status(answer: Any, now_s: float) -> None:
    if answer.status_code == 429:
        raise SourceLimited(UPSTREAM, _retry_after_s(answer.headers, now_s))
    if answer.status_code >= 500:
        raise SourceUnavailable(f"Yahoo answers {answer.status_code}", "failing")


def _check_content(answer: Any, endpoint: str, symbol: str) -> None:
    if 300 <= answer.status_code < 400:
        host = urlsplit(answer.headers.get("Location", "")).hostname or "another page"
        raise SourceUnavailable(f"Yahoo sends us to {host} instead of answering", "failing")
    body = answer.content
    if "html" in answer.headers.get("Content-Type", "") or body[:1] == b"<":
        raise SourceMalformed("html", "a page instead of data")
    if endpoint in _ROOTS:
        results(body, _ROOTS[endpoint], symbol)
        return
    try:
        found = orjson.loads(body)
        for name in _LISTS[endpoint]:
            found = found[name]
    except orjson.JSONDecodeError as error:
        raise SourceMalformed("not_json", f"no JSON: {error}") from None
    except (KeyError, TypeError, IndexError):
        found = None
    if not isinstance(found, list):
        raise SourceMalformed("no_result", f"no list of {endpoint} in the answer")
