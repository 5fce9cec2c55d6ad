"""The envelope in which some older routes answer."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from starlette.responses import Response

from serve.rest.answers import fresh
from serve.rest.schemas import Shape

T = TypeVar("T")


class Envelope(Shape, Generic[T]):
    """`{status, message, data}`."""

    status: str
    message: str
    data: T


def enveloped(data: Any, message: str) -> Response:
    """Return an answer in the envelope."""
    return fresh({"status": "success", "message": message, "data": data})
