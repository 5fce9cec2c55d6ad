"""The same route as the measured one, with an answer that is there already."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response

PATH = "/api/v2/technical-analysis/indicators/AAPL?period=1y"


def add_route(app: FastAPI, length: int) -> None:
    """Add the route of indicators; it returns `length` bytes."""
    body = b"x" * length

    @app.get("/api/v2/technical-analysis/indicators/{symbol}")
    async def read_indicators(symbol: str, period: str = "1mo") -> Response:
        return Response(body, media_type="application/json")
