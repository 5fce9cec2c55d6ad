"""Routes that take what they are sent, or say what of it they do not."""

from __future__ import annotations

import email.message
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.responses import Response

from infra.digits import MOST
from infra.errors import BodyInvalid
from serve.edge.parameter_names import check_names, check_unread

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADER = "the body must be JSON: send the header Content-Type: application/json"

_LARGE = re.compile(rb"\d{19}")
_MOST_NAMES = 200

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Router(APIRouter):
    """A router whose routes are of our kind; a body without a content type is JSON.

    A page elsewhere gains nothing by that: browsers send its `Origin`, which the gate refuses.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(route_class=Route, strict_content_type=False, **more)


class Route(APIRoute):
    """Answers 422 where FastAPI would pass over what was sent.

    A query parameter that is near to one of the route's, a body that nothing is read of, one of
    another type than JSON, and JSON that no string or number of ours can hold.
    """

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        answer = super().get_route_handler()
        known = _queried(self.dependant)
        check_body = _check_type if self.body_field is not None else _refuser(known)

        async def handler(request: Request) -> Response:
            if request.scope["query_string"]:
                check_names(request.query_params, known)
            own = _JsonRequest(request.scope, request.receive)  # keeps the body, which comes once
            if request.method not in _WITHOUT_BODY:
                await check_body(own)
            return await answer(own)

        return handler


def _queried(dependant: Dependant) -> set[str]:
    """Return the names of the query's parameters, of what a route depends on too."""
    own = {field.alias for field in dependant.query_params}
    return own.union(*(_queried(one) for one in dependant.dependencies))


class _JsonRequest(Request):
    """Reads JSON as everybody else understands it."""

    async def json(self) -> Any:
        """Return the body; raises JSONDecodeError also for what Python alone takes.

        NaN, half of a surrogate pair, text that is not UTF-8, numbers beyond 64 bits; and for an
        object of more names than any model has, each of which would be an error of its own.
        """
        body = await self.body()
        orjson.loads(body)
        # A call for each number costs ten times the parse: only where one could be too large.
        parsed = json.loads(body, parse_int=_whole if _LARGE.search(body) else None)
        if isinstance(parsed, dict) and len(parsed) > _MOST_NAMES:
            raise json.JSONDecodeError(f"an object of more than {_MOST_NAMES} names", "{", 0)
        return parsed


def _whole(text: str) -> int:
    number = int(text) if len(text) <= len(str(MOST)) + 1 else MOST + 1
    if not -MOST <= number <= MOST:
        raise json.JSONDecodeError("a number beyond 64 bits", text[:40], 0)
    return number


async def _check_type(request: Request) -> None:
    given = request.headers.get("content-type")
    if not given:
        return
    message = email.message.Message()
    message["content-type"] = given
    subtype = message.get_content_subtype()
    is_json = subtype == "json" or subtype.endswith("+json")
    if not (is_json and message.get_content_maintype() == "application") and await request.body():
        raise BodyInvalid(("header", "content-type"), f"{_HEADER}, not {given[:60]!r}")


def _refuser(known: set[str]) -> Callable[[Request], Coroutine[Any, Any, None]]:
    where = f"its parameters go in the query: {', '.join(sorted(known))}"
    told = f"this route reads no body; {where if known else 'send none'}"

    async def check(request: Request) -> None:
        check_unread(await request.body(), told)

    return check
