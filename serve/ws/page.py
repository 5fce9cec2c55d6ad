"""The live page, `/ws/demo`; its scripts and styles are the other application's, at `/assets`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from serve.web.pages import ASSETS, HEADERS


async def read_demo(_: Request) -> Response:
    """The page."""
    return FileResponse(ASSETS / "demo.html", headers=HEADERS)


def routes() -> list[Route]:
    """Return the route."""
    return [Route("/ws/demo", read_demo)]
