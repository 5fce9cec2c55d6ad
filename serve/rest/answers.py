"""How routes answer: bytes made once, kept where they may be, errors of symbols in their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from infra.clock import utc
from infra.errors import FinstageError
from infra.metrics import NEAR_CACHE
from infra.periods import check_interval
from serve.errors import error_detail
from serve.near import Rendered
from serve.services import Services

_NO_STORE = {"cache-control": "no-store"}


def rendered(value: Any) -> bytes:
    """Return a value as JSON; NaN and infinity become null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def fresh(value: Any, status_code: int = 200) -> Response:
    """Return an answer that nobody keeps, because it holds a price or a time of now."""
    return Response(rendered(value), status_code, media_type="application/json", headers=_NO_STORE)


async def kept(
    request: Request,
    services: Services,
    symbol: str,
    make: Callable[[], Awaitable[dict[str, Any]]],
    keeps: bool = True,
) -> Response:
    """Return an answer that is the same until the symbol's data version changes.

    `make` gives the object, its `data_version` in it; requests that come meanwhile share one
    call. The bytes go into the near cache unless `keeps` is false.
    """
    if not keeps:
        NEAR_CACHE.labels("miss").inc()
        return fresh(await make())
    near = services.near
    raw_key = (request.url.path, request.scope["query_string"])
    entry = near.lookup(*raw_key)
    NEAR_CACHE.labels("miss" if entry is None else "hit").inc()
    if entry is None:
        entry = await near.once(raw_key, lambda: _render(request, services, symbol, make))
        near.keep(raw_key, entry)
    near.touch(raw_key)
    return _entry_response(request, entry, services.settings.gzip_above_bytes)


async def _render(
    request: Request,
    services: Services,
    symbol: str,
    make: Callable[[], Awaitable[dict[str, Any]]],
) -> Rendered:
    value = await make()
    route = getattr(request.scope.get("route"), "path", "unmatched")
    scope = b"private" if services.settings.key_for_reads else b"public"
    return Rendered(rendered(value), symbol, value["data_version"], route, scope + b", no-cache")


def _entry_response(request: Request, entry: Rendered, gzip_above_bytes: int) -> Response:
    if entry.etag in request.headers.get("if-none-match", "").encode():
        response, headers = Response(status_code=304), entry.headers_304
    elif (
        "gzip" in request.headers.get("accept-encoding", "") and len(entry.body) > gzip_above_bytes
    ):
        response, headers = Response(entry.zip()), entry.headers_zipped
    else:
        response, headers = Response(entry.body), entry.headers
    response.raw_headers = list(headers)
    return response


def or_errors(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results by symbol, an error as `{symbol, error}`."""
    return {
        symbol: {"symbol": symbol, "error": error_detail(value)}
        if isinstance(value, FinstageError)
        else value
        for symbol, value in results.items()
    }


def raise_if_all_failed(results: Mapping[str, Any]) -> None:
    """Raise the first error if no symbol has anything else."""
    errors = [value for value in results.values() if isinstance(value, FinstageError)]
    if errors and len(errors) == len(results):
        raise errors[0]


def now_iso(services: Services) -> str:
    """Return the wall time in UTC, to the millisecond."""
    return utc(services.clock.time_s()).isoformat(timespec="milliseconds")


def supported(services: Services, interval: str) -> str:
    """Return `interval` if the source has bars of it, else raise ParameterInvalid."""
    return check_interval(interval, services.source.intervals)
