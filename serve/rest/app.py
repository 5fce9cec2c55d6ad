"""The REST application, put together."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from serve.edge.errors import install_error_handlers
from serve.edge.gate import Gate
from serve.edge.middleware import RequestMiddleware
from serve.rest import (
    ab_tests,
    alerts,
    analysis,
    database,
    health,
    live,
    market,
    market_price,
    memory,
    old_streams,
    optimization,
    performance,
    prices,
    scheduler,
    screens,
    service_alerts,
    signals,
    simple,
    stored,
    symbols,
    tasks,
)
from serve.rest.services import Services
from serve.version import VERSION
from serve.web import pages

_ABOUT = """Prices and indicators, computed once and shared by every client.

Every answer names its `source`; with `replay` prices are years old and the ticks between real
bars are made. Times are UTC. Lists are `{items, pagination}`; errors are
`{"detail": {"code", "message", "retryable", "request_id"}}`, 422 a list with what is allowed
under `ctx`.
"""


def create_api(services: Services, gate: Gate, behind_serve: bool = True) -> FastAPI:
    """Return the application of the `api` deployment at `/`."""
    app: FastAPI = FastAPIOffline(
        title="Finstage",
        version=VERSION,
        description=_ABOUT,
        redoc_url=None,
        static_url="/assets/docs",
        favicon_url="/assets/icon.svg",
        openapi_url="/openapi.json",
    )
    app.state.services = services
    for router in (
        stored.router,
        market.router,
        analysis.router,
        screens.router,
        live.router,
        old_streams.router,
        signals.router,
        alerts.router,
        service_alerts.router,
        performance.router,
        performance.metrics,
        performance.monitoring,
        performance.other,
        optimization.router,
        ab_tests.router,
        prices.router,
        simple.router,
        symbols.router,
        market_price.router,
        scheduler.router,
        tasks.router,
        database.router,
        memory.about,
        health.router,
        pages.router,
    ):
        app.include_router(router)
    for prefix in ("/api/memory", "/system/memory"):
        app.include_router(memory.router, prefix=prefix)
    app.mount("/assets", pages.assets())
    install_error_handlers(app)
    app.add_middleware(
        RequestMiddleware,
        gate=gate,
        behind_serve=behind_serve,
        max_body_bytes=services.settings.max_body_bytes,
    )
    if services.settings.cors_origins:  # around the gate: a preflight carries no key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(services.settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"],
            allow_headers=["X-API-Key", "Content-Type", "If-None-Match", "X-Request-ID"],
            expose_headers=["ETag", "X-Request-ID"],
        )
    return app
