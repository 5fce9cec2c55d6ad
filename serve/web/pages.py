"""The pages that the service shows."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

ASSETS = Path(__file__).parent / "assets"

router = APIRouter(include_in_schema=False)

HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'self'; connect-src 'self' ws: wss:",
    "x-content-type-options": "nosniff",
}


@router.get("/")
async def home() -> FileResponse:
    """The front page: prices as they come, and where everything else is."""
    return FileResponse(ASSETS / "home.html", headers=HEADERS)


@router.get("/tasks")
async def tasks() -> FileResponse:
    """The page of tasks: what runs, what waits, what ended."""
    return FileResponse(ASSETS / "tasks.html", headers=HEADERS)


@router.get("/performance-dashboard")
@router.get("/api/v2/performance/dashboard/html")
async def performance() -> FileResponse:
    """The page of operators: how the service does."""
    return FileResponse(ASSETS / "performance.html", headers=HEADERS)


def assets() -> StaticFiles:
    """Return the application that serves scripts, styles and pictures."""
    return StaticFiles(directory=ASSETS)
