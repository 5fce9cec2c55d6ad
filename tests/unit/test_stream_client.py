"""When the stream client gives up."""

from __future__ import annotations

import pytest
import websockets
from websockets.datastructures import Headers
from websockets.http11 import Response

from serve.client.stream import StreamRefused, _check_final


def answered(status: int, body: bytes) -> websockets.InvalidStatus:
    return websockets.InvalidStatus(Response(status, "", Headers(), body))


def test_an_ingress_that_starts_is_asked_again() -> None:
    words = b"Path '/ws/realtime' not found. Ping http://.../-/routes for available routes."

    _check_final(answered(404, words))
    _check_final(answered(429, b"{}"))
    _check_final(answered(503, b""))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_stays_refused_ends_it(status: int) -> None:
    with pytest.raises(StreamRefused, match="no such thing"):
        _check_final(answered(status, b'{"detail": "no such thing"}'))
