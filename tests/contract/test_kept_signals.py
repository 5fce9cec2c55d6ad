"""Signals that the job kept, as the route lists them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from infra.clock import utc
from infra.db.signals import StoredSignal
from tests.local import LocalService


async def test_signals_of_days_that_have_not_come_are_not_listed(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    today = local.source.quote_now("AAPL").session
    opened = datetime(today.year, today.month, today.day, tzinfo=UTC)
    kept = [
        StoredSignal("AAPL", "replay", "golden_cross", "1d", opened + timedelta(days=days),
                     1.0, 1.0, 1.0, 1, utc(local.clock.time_s()))
        for days in (-1, 0, 90)
    ]  # fmt: skip
    await local.store.write(lambda unit: unit.signals.add(kept))
    url = "/api/v2/technical-analysis/signals/kept"
    (shown,) = (await client.get(url)).json()["signals"]
    assert shown["triggered_at"] == (opened - timedelta(days=1)).isoformat()
