"""How commands speak to the service that runs in this data directory."""

from __future__ import annotations

from typing import Any

import httpx

from infra.errors import ConfigError
from infra.settings import Settings
from serve.state import read_state

Client = httpx.Client


def local_client(settings: Settings) -> Client:
    """Return a client of the running service; raises ConfigError if nothing runs."""
    state = read_state(settings)
    if state is None or not state.runs:
        raise ConfigError(f"nothing runs on {settings.data_dir}; `finstage up` starts it")
    key = next(iter(settings.keys.values()), "")
    headers = {"X-API-Key": key} if key else {}
    return httpx.Client(base_url=state.url, headers=headers, timeout=30, trust_env=False)


def asked(client: Client, method: str, path: str, **options: Any) -> Any:
    """Return the body of an answer; raises ConfigError with what the service said."""
    try:
        answer = client.request(method, path, **options)
    except httpx.HTTPError as error:
        raise ConfigError(f"no answer at {client.base_url}: {type(error).__name__}") from None
    if answer.is_error:
        raise ConfigError(_said(answer))
    return answer.json()


def shortcomings(url: str) -> list[str]:
    """Return a line for each part that is not as it should be, nothing if it cannot be asked."""
    try:
        checks = httpx.get(f"{url}/health/ready", timeout=10, trust_env=False).json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError):
        return []
    return [f"{n}: {c['detail']}" for n, c in checks.items() if c["status"] != "ok"]


def _said(answer: httpx.Response) -> str:
    try:
        detail = answer.json().get("detail", {})
    except ValueError:
        return answer.text[:300]
    if isinstance(detail, dict):
        return str(detail["message"])
    return "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in detail)
