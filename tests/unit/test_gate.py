"""Who may: hosts, origins, keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.errors import KeyRequired, OriginRefused, RateLimited
from serve.edge.gate import Gate
from tests.settings import made_settings

KEYS = "bot:0123456789,desk:abcdefghij"


def gate(**settings: Any) -> Gate:
    return Gate(made_settings(data_dir=Path("/nowhere"), **settings))


def scope(
    method: str = "GET",
    path: str = "/api/v2/symbols",
    kind: str = "http",
    query: bytes = b"",
    **headers: str,
) -> dict[str, Any]:
    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    if "host" not in headers:
        raw.append((b"host", b"localhost:8000"))
    return {"type": kind, "method": method, "path": path, "query_string": query, "headers": raw}


def path_of(scope: Any) -> str:
    """Answer as where each route has one path."""
    return str(scope["path"])


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"]
)
def test_loopback_names_are_served(host: str) -> None:
    assert gate().admit(scope(host=host)) == ""


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "[::2]:80"])
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(OriginRefused, match="FINSTAGE_ALLOWED_HOSTS"):
        gate().admit(scope(host=host))


def test_a_listed_host_is_served() -> None:
    assert gate(allowed_hosts="data.example").admit(scope(host="data.example")) == ""


@pytest.mark.parametrize("kind", ["websocket", "http"])
def test_another_page_may_neither_change_anything_nor_open_a_socket(kind: str) -> None:
    foreign = scope("POST", kind=kind, origin="https://evil.example")
    opaque = scope("POST", kind=kind, origin="null")

    for request in (foreign, opaque):
        with pytest.raises(OriginRefused, match="FINSTAGE_CORS_ORIGINS"):
            gate().admit(request)


def test_own_pages_and_listed_origins_may() -> None:
    own = scope("POST", origin="http://localhost:8000")
    listed = scope("POST", kind="websocket", origin="https://desk.example")

    assert gate().admit(own) == ""
    assert gate(cors_origins="https://desk.example/").admit(listed) == ""


def test_reading_from_another_page_is_left_to_cors() -> None:
    assert gate().admit(scope(origin="https://evil.example")) == ""


def test_changes_and_client_lists_need_a_key_and_reads_do_not() -> None:
    keyed = gate(api_keys=KEYS)

    for request in (scope("POST"), scope("DELETE"), scope(path="/ws/clients")):
        with pytest.raises(KeyRequired):
            keyed.admit(request, path_of)
    assert keyed.admit(scope(), path_of) == ""
    batch = "/api/v2/technical-analysis/batch/indicators"
    assert keyed.admit(scope("POST", path=batch), path_of) == ""
    assert keyed.admit(scope("POST", x_api_key="abcdefghij")) == "desk"


def test_a_wrong_key_is_refused_on_reads_too() -> None:
    with pytest.raises(KeyRequired, match="not known"):
        gate(api_keys=KEYS).admit(scope(x_api_key="0123456788"))


def test_reads_need_a_key_where_the_setting_says_so_but_health_does_not() -> None:
    keyed = gate(api_keys=KEYS, key_for_reads=True)

    with pytest.raises(KeyRequired):
        keyed.admit(scope())
    with pytest.raises(KeyRequired):
        keyed.admit(scope(kind="websocket", path="/ws/realtime"))
    for path in ("/health/ready", "/", "/docs", "/assets"):
        assert keyed.admit(scope(path=path), path_of) == ""
    socket = scope(kind="websocket", path="/ws/realtime", query=b"api_key=0123456789")
    assert keyed.admit(socket) == "bot"


def test_a_key_over_its_limit_is_told_when_to_come_back() -> None:
    keyed = gate(api_keys=KEYS, key_requests_per_s=3)
    request = scope(x_api_key="0123456789")

    for _ in range(3):
        keyed.admit(request)
    with pytest.raises(RateLimited) as caught:
        keyed.admit(request)

    assert caught.value.retry_after_s > 0
    assert keyed.admit(scope(x_api_key="abcdefghij")) == "desk"
