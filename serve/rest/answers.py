"""How routes answer: bytes made once, kept where they may be, errors of symbols in their place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from infra.clock import utc
from infra.errors import FinstageError
from infra.periods import INTERVALS, check_interval
from serve.edge.errors import error_detail
from serve.edge.near import Rendered
from serve.rest.services import Services

_NO_STORE = {"cache-control": "no-store"}


def rendered(value: Any) -> bytes:
    """Return a value as JSON; NaN and infinity become null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def fresh(value: Any, status_code: int = 200) -> Response:
    """Return an answer that nobody keeps, because it holds a price or a time of now."""
    return Response(rendered(value), status_code, media_type="application/json", headers=_NO_STORE)


class Question(ABC):
    """Something whose answer is the same until a symbol's data version changes.

    A subclass is a frozen dataclass of all that its answer depends on: equal questions share it.
    """

    __slots__ = ()

    async def answer(self, services: Services) -> Rendered:
        """Return the answer, from memory or made once for all who ask meanwhile."""
        entry = services.near.find(self)
        if entry is not None:
            services.near.count_hits(entry.route)
            return entry
        made: Rendered = await services.near.once(self, lambda: self._kept(services))
        services.near.count_miss(made.route)
        return made

    async def _kept(self, services: Services) -> Rendered:
        made = await self.render(services)
        services.near.keep(self, made)
        return made

    @abstractmethod
    async def render(self, services: Services) -> Rendered:
        """Make the answer; raises what stands in its way."""


async def kept(request: Request, services: Services, question: Question) -> Response:
    """Return the kept answer to a question, and let the edge know how it was asked."""
    entry = await question.answer(services)
    services.near.alias((request.url.path, request.scope["query_string"]), question)
    return _entry_response(request, entry, services.settings.gzip_above_bytes)


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
    """Return `interval` if there is one, else raise ParameterInvalid.

    Whether a symbol has bars of it is the feed's to say: an import may.
    """
    return check_interval(interval, INTERVALS)
