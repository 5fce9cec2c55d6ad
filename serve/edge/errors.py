"""How errors look to HTTP clients: one JSON shape, no traceback, no path."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from infra.context import bound_request_id, current_request_id
from infra.errors import (
    ExpressionInvalid,
    FinstageError,
    ParameterInvalid,
    RangeInvalid,
    RateLimited,
    SourceError,
    TargetInvalid,
    TaskArgumentsInvalid,
    TaskQueueFull,
)
from serve.edge.scope import REQUEST_ID, TOO_LARGE

logger = logging.getLogger(__name__)

_QUOTED = re.compile(r"'([^']*)'")
_LONGEST_INPUT = 100
_MOST_ERRORS = 20
# Nothing was sent, or what was sent is no JSON: what stands beside it is something else.
_WITHOUT_INPUT = frozenset({"missing", "json_invalid"})
_OF_DATES = frozenset({
    "date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"
})  # fmt: skip
_NO_DATE = "Input should be a date, written YYYY-MM-DD"
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def error_detail(error: FinstageError) -> dict[str, Any]:
    """Return an error as the object that stands under `detail`, or beside a symbol."""
    detail: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "request_id": current_request_id(),
    }
    return detail | ({"context": error.context} if error.context else {})


def error_body(error: FinstageError) -> bytes:
    """Return the whole body of an error's answer."""
    if (
        isinstance(error, ParameterInvalid | RangeInvalid | ExpressionInvalid | TargetInvalid)
        and error.status_code == 422
    ):
        item = {
            "type": error.code,
            "loc": list(error.location),
            "msg": error.message,
            "ctx": error.context,
        }
        return orjson.dumps({"detail": [item]})
    if isinstance(error, TaskArgumentsInvalid):
        return orjson.dumps({"detail": _argument_items(error)})
    if error.status_code == 422:
        item = {"type": error.code, "loc": ["body"], "msg": error.message, "ctx": error.context}
        return orjson.dumps({"detail": [item]})
    return orjson.dumps({"detail": error_detail(error)})


def _argument_items(error: TaskArgumentsInvalid) -> list[dict[str, Any]]:
    """Return one item for each argument that is wrong."""
    context = {"task_name": error.name}
    return [
        {"type": error.code, "loc": ["body", "kwargs", name], "msg": reason, "ctx": context}
        for name, reason in error.problems
    ]


def error_headers(error: FinstageError) -> dict[str, str]:
    """Return the headers that belong to an error."""
    headers = {"cache-control": "no-store"}
    if isinstance(error, RateLimited | TaskQueueFull):
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    elif isinstance(error, SourceError) and error.retry_after_s:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    elif error.retryable:
        headers["retry-after"] = "1"
    return headers


@contextmanager
def of_body(**fields: str) -> Iterator[None]:
    """Let errors of parameters name fields of the body; `fields`: those of another name there."""
    try:
        yield
    except (ParameterInvalid, RangeInvalid) as error:
        place, name = error.location[0], error.location[-1]
        if place != "body":
            error.location = ("body", fields.get(name, name))
        raise


def error_response(error: FinstageError) -> Response:
    """Return an error as an answer."""
    return Response(
        error_body(error),
        status_code=error.status_code,
        media_type="application/json",
        headers=error_headers(error),
    )


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the application answer in our shape."""
    app.add_exception_handler(FinstageError, _on_finstage_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_finstage_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, FinstageError)
    level = logging.WARNING if error.status_code >= 500 else logging.DEBUG
    logger.log(level, "request.failed", extra={"code": error.code})
    return error_response(error)


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _invalid([_invalid_item(dict(item)) for item in error.errors()[:_MOST_ERRORS]])


def _invalid(items: list[dict[str, Any]]) -> Response:
    return Response(
        orjson.dumps({"detail": items}, default=str),
        status_code=422,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _invalid_item(item: dict[str, Any]) -> dict[str, Any]:
    context = dict(item.get("ctx") or {})
    if item["type"] == "literal_error":
        context = {"allowed": _QUOTED.findall(str(context.get("expected", "")))}
    told = {
        "type": item["type"],
        "loc": list(item["loc"]),
        "msg": _NO_DATE if item["type"] in _OF_DATES else item["msg"],
        "ctx": {name: str(v) if isinstance(v, Exception) else v for name, v in context.items()},
    }
    sent = None if item["type"] in _WITHOUT_INPUT else _shortened(item.get("input"))
    return told if sent is None else told | {"input": sent}


def _shortened(sent: object) -> str | None:
    """Return text as it was sent, all else as JSON; None for what is nested too deep for it."""
    if not isinstance(sent, str):
        try:
            sent = orjson.dumps(sent, default=str).decode()
        except orjson.JSONEncodeError:
            return None
    return sent[:_LONGEST_INPUT]


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if TOO_LARGE in request.scope:
        return error_response(request.scope[TOO_LARGE])
    if error.status_code == 400:  # FastAPI's word for a body that is no text at all
        return _invalid([{"type": "json_invalid", "loc": ["body"], "msg": str(error.detail)}])
    detail = {
        "code": _HTTP_CODES.get(error.status_code, "http_error"),
        "message": str(error.detail),
        "retryable": False,
        "request_id": current_request_id(),
    }
    return Response(
        orjson.dumps({"detail": detail}),
        status_code=error.status_code,
        media_type="application/json",
        headers={**(error.headers or {}), "cache-control": "no-store"},
    )


async def _on_bug(request: Request, error: Exception) -> Response:
    # Starlette calls this outside of all middleware, where no id is bound any more.
    with bound_request_id(request.scope.get(REQUEST_ID, "")):
        logger.error("request.bug", exc_info=error, extra={"path": request.url.path})
        return error_response(FinstageError("something went wrong here; the log has the reason"))
