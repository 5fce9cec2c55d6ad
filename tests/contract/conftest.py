"""The whole application in process, for contract tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.local import LocalService


@pytest.fixture
def local(tmp_path: Path) -> LocalService:
    return LocalService(tmp_path)


@pytest.fixture
async def client(local: LocalService) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(local.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
        yield http
