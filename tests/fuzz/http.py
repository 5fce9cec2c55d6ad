"""Requests as they are written on the wire, from the routes that the service documents."""

from __future__ import annotations

import asyncio
import random
import re
import shlex
from collections import deque
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

from tests.fuzz import values

_PATIENCE_S = 45.0
_MOST_BYTES = 2 * 2**20
_GOOD = "AAPL"
_ID = re.compile(r'"(?:id|task_id|rule_id|test_id|alert_id)":"([^"]+)"')
_CODE = re.compile(r'"code":"(\w+)"')
_BESIDE = (
    "/ws/clients", "/ws/status", "/ws/broadcast", "/ws/streaming/start", "/ws/nothing", "/tasks",
    "/ws/realtime", "/", "/docs", "/ws/demo", "/assets/none.js",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `query` is written already, pair by pair; `allowed`: documented 5xx."""

    method: str
    path: str
    query: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    allowed: tuple[int, ...] = (501, 503)

    @property
    def target(self) -> str:
        """The path with its query."""
        return self.path + ("?" + "&".join(self.query) if self.query else "")

    def curl(self, url: str) -> str:
        """Return the line for a shell that sends it again."""
        words = ["curl", "-sg", "--path-as-is", "-X", self.method, f"{url}{self.target}"]
        for name, value in self.headers:
            words += ["-H", f"{name}: {value}"]
        line = shlex.join(words)
        if self.body is None:
            return line
        if len(self.body) > 2_000:
            return f"{line} --data-binary @-  # {len(self.body)} bytes: {self.body[:200]!r}…"
        return f"printf %b {shlex.quote(_escaped(self.body))} | {line} --data-binary @-"

    def smaller(self) -> list[Request]:
        """Return it with one thing less, in every way."""
        found = [
            replace(self, query=self.query[:n] + self.query[n + 1 :])
            for n in range(len(self.query))
        ]
        found += [
            replace(self, headers=self.headers[:n] + self.headers[n + 1 :])
            for n in range(len(self.headers))
        ]
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0 where nothing did, with the reason as text."""

    status: int
    text: str

    @property
    def named(self) -> str:
        """How it is counted: by status, of 5xx with the code."""
        code = _CODE.search(self.text) if self.status >= 500 else None
        return f"{self.status} {code[1]}" if code else str(self.status or "none")


async def sent(url: str, request: Request, request_id: str) -> Answer:
    """Send a request byte by byte, and read what comes."""
    parts = urlsplit(url)
    head = [f"{request.method} {request.target} HTTP/1.1", f"host: {parts.netloc}",
            "connection: close", f"x-request-id: {request_id}"]  # fmt: skip
    head += [f"{name}: {value}" for name, value in request.headers]
    if request.body is not None:
        head.append(f"content-length: {len(request.body)}")
    raw = "\r\n".join([*head, "", ""]).encode("utf-8", "replace") + (request.body or b"")
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(raw)
                await writer.drain()
                return await _read(reader, is_stream="/sse" in request.path)
            finally:
                writer.close()
    except TimeoutError:
        return Answer(0, f"no answer in {_PATIENCE_S:g} s")
    except (OSError, asyncio.IncompleteReadError) as error:
        return Answer(0, f"{type(error).__name__}: {error}")


async def _read(reader: asyncio.StreamReader, is_stream: bool) -> Answer:
    first = await reader.readline()
    found = re.match(rb"HTTP/1\.[01] (\d{3})", first)
    if found is None:
        return Answer(0, f"no status: {first[:80]!r}")
    status = int(found[1])
    if is_stream and status == 200:
        return Answer(status, (await reader.read(400)).decode("utf-8", "replace"))
    body = b""
    while len(body) < _MOST_BYTES and (part := await reader.read(65_536)):
        body += part
    return Answer(status, body.partition(b"\r\n\r\n")[2][:300].decode("utf-8", "replace"))


class Routes:
    """All routes of a service, and requests that none of them expects."""

    def __init__(self, openapi: dict[str, Any]) -> None:
        self._whole = openapi
        self._ids: deque[str] = deque(maxlen=100)
        self.all = [
            (method.upper(), path, about)
            for path, methods in sorted(openapi["paths"].items())
            for method, about in sorted(methods.items())
        ]

    def learn(self, answer: Answer) -> None:
        """Keep the ids of what an answer made, for paths to name."""
        self._ids.extend(_ID.findall(answer.text))

    def request(self, draws: random.Random) -> Request:
        """Return a request for a route, with something in it that makes no sense."""
        method, path, about = draws.choice(self.all)
        names: list[dict[str, Any]] = about.get("parameters", [])
        odd = draws.choice([p["name"] for p in names] + ["body", "path", "more", "headers"])
        query, headers = [], []
        for one in names:
            name = one["name"]
            is_odd = name == odd
            if not (is_odd or one.get("required") or draws.random() < 0.3):
                continue
            good = values.of_schema(one["schema"], self._whole, draws)
            value = values.text(draws) if is_odd else _as_text(good)
            if one["in"] == "path":
                value = value if is_odd else self._good_for(name, value, draws)
                path = path.replace(f"{{{name}}}", quote(value, safe=draws.choice(("", "/%"))))
            elif one["in"] == "query":
                query += [_pair(name, value, draws)] * (2 if draws.random() < 0.05 else 1)
            else:
                headers.append((name, _as_header(value)))
        if odd == "more":
            query.append(_pair(values.text(draws)[:100], values.text(draws), draws))
        if odd == "headers":
            headers.append(_header(draws))
        if odd == "path":
            path = _spelt(path, draws)
        body = None
        if "requestBody" in about or (odd == "body" and method != "GET"):
            body = self._body(about, odd == "body" or draws.random() < 0.5, draws)
            kinds = ("application/json",) * 8 + (
                "text/plain",
                "",
                "application/json; charset=utf-16",
            )
            headers.append(("content-type", draws.choice(kinds)))
        documented = tuple(int(code) for code in about["responses"] if code in ("501", "503"))
        path = re.sub(r"\{(\w+)\}", _GOOD, path)
        return Request(method, path, tuple(query), tuple(headers), body, documented)

    def _good_for(self, name: str, value: str, draws: random.Random) -> str:
        if name == "symbol":
            return _GOOD
        return draws.choice(self._ids) if self._ids and name.endswith("_id") else value

    def _body(self, about: dict[str, Any], is_odd: bool, draws: random.Random) -> bytes:
        content = about.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {"type": "object"})
        value = values.of_schema(schema, self._whole, draws)
        if is_odd:
            value = values.spoiled(value, draws)
        raw = values.json_text(value).encode("utf-8", "surrogatepass")
        what = draws.random()
        if what < 0.04:
            return raw[: draws.randrange(len(raw) + 1)]
        if what < 0.08:
            return raw + draws.randbytes(5)
        return raw


def events(draws: random.Random) -> Request:
    """Return a question for server-sent events."""
    names = ("symbols", "type", "mode", "fields", "max_rate_hz", "interval", "indicators",
             "extended", "last_event_id", "x")  # fmt: skip
    good = {"symbols": "AAPL", "type": "prices"}
    given = good | {draws.choice(names): values.text(draws) for _ in range(draws.randrange(1, 4))}
    headers = (("last-event-id", _as_header(values.text(draws))),) if draws.random() < 0.4 else ()
    query = tuple(_pair(name, value, draws) for name, value in given.items())
    return Request("GET", "/ws/sse", query, headers)


def beside(draws: random.Random) -> Request:
    """Return a request for what the OpenAPI document does not name: the stream's own routes."""
    path = draws.choice(_BESIDE)
    method = draws.choice(("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "BREW"))
    body = values.json_text(values.spoiled({"message": "a", "symbols": ["AAPL"]}, draws))
    query = (_pair(values.text(draws)[:50], values.text(draws), draws),)
    has_body = method in ("POST", "PUT", "PATCH")
    return Request(method, _spelt(path, draws), query, (_header(draws),),
                   body.encode("utf-8", "surrogatepass") if has_body else None)  # fmt: skip


def _escaped(body: bytes) -> str:
    """Return bytes as `printf %b` takes them."""
    return "".join(
        "\\\\" if byte == 92 else chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"
        for byte in body
    )


def _pair(name: str, value: str, draws: random.Random) -> str:
    safe = draws.choice(("", "", "", ",:()^*", "%,"))
    return f"{quote(name)}={quote(value, safe=safe)}"


def _header(draws: random.Random) -> tuple[str, str]:
    name = draws.choice((
        "if-none-match", "accept", "accept-encoding", "x-api-key", "origin", "range", "cookie",
        "x-forwarded-for", "x-request-timeout-seconds", "content-type", "expect", "x-user-id",
        "x-request-disconnect-disabled", "traceparent", "last-event-id", "idempotency-key",
    ))  # fmt: skip
    return name, _as_header(values.text(draws))


def _as_header(value: str) -> str:
    return re.sub(r"[\r\n\x00]", "", value)[:4_000]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else values.json_text(value)


def _spelt(path: str, draws: random.Random) -> str:
    """Return a path in another spelling."""
    return draws.choice((
        path + "/", path.replace("/api", "//api"), path.upper(), path.replace("/", "/./", 1),
        path.replace("a", "%61", 1), path + ";x=1", path + "%00", path + "/..", "/.." + path,
        path.replace("/", "%2f", 2)[3:] or "/", path + "%", path + "%zz", "/" + quote(path, ""),
        path.replace("/v2/", "/v2/%2e%2e/v2/"), "http://127.0.0.1" + path, path + "%ff%fe",
        path + "?", "*",
    ))  # fmt: skip
