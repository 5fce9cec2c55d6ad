"""How commands speak to the service: that of this data directory, or another by its URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from infra.errors import ConfigError
from infra.settings import Settings
from serve.state import read_state

Client = httpx.Client


class Refused(ConfigError):
    """Raised for an answer that is an error; `problems` is (argument, reason)."""

    def __init__(self, message: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.problems = problems


def service_url(settings: Settings) -> str:
    """Return where the service is: at FINSTAGE_URL, else where it runs on the data directory.

    Raises ConfigError if nothing runs there.
    """
    if settings.url:
        return settings.url.rstrip("/")
    state = read_state(settings)
    if state is None or not state.runs:
        raise ConfigError(
            f"nothing runs on {settings.data_dir}; `finstage up` starts it, and FINSTAGE_URL "
            "names one elsewhere"
        )
    return state.url


def service_client(settings: Settings) -> Client:
    """Return a client of the service; raises ConfigError if nothing runs."""
    key = next(iter(settings.keys.values()), "")
    headers = {"X-API-Key": key} if key else {}
    url = service_url(settings)
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)


def asked(client: Client, method: str, path: str, **options: Any) -> Any:
    """Return the body of an answer; raises Refused with what the service said, ConfigError."""
    try:
        answer = client.request(method, path, **options)
    except httpx.HTTPError as error:
        raise ConfigError(f"no answer at {client.base_url}: {type(error).__name__}") from None
    try:
        body = answer.json()
        if not answer.is_error:
            return body
        refused = _refused(body["detail"])
    except (ValueError, LookupError, TypeError):
        told = f"{client.base_url} answered {answer.status_code}, not as Finstage does"
        raise Refused(f"{told}: is FINSTAGE_URL right?") from None
    raise refused


def shortcomings(url: str) -> list[str]:
    """Return a line for each part that is not as it should be, nothing if it cannot be asked."""
    try:
        checks = httpx.get(f"{url}/health/ready", timeout=10, trust_env=False).json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError):
        return []
    return [f"{n}: {c['detail']}" for n, c in checks.items() if c["status"] != "ok"]


def _refused(detail: Any) -> Refused:
    if isinstance(detail, dict):
        return Refused(str(detail["message"]))
    problems = [(str(item["loc"][-1]), str(item["msg"])) for item in detail]
    return Refused("; ".join(f"{name}: {reason}" for name, reason in problems), problems)
