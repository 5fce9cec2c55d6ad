"""Every error crosses process borders whole, and says what clients need."""

from __future__ import annotations

import inspect
import logging
import pickle
from collections.abc import Iterator

import httpx
import pytest

from infra import errors
from infra.context import current_request_id
from infra.errors import FinstageError
from serve.edge.errors import error_body
from tests.local import LocalService

SAMPLES: dict[str, object] = {
    "str": "text",
    "float": 1.5,
    "float | None": 1.5,
    "int": 3,
    "int | None": 3,
    "Sequence[tuple[str, str]]": [("symbol", "missing")],
}


def all_errors() -> Iterator[type[FinstageError]]:
    for _, cls in inspect.getmembers(errors, inspect.isclass):
        if issubclass(cls, FinstageError):
            yield cls


def made(cls: type[FinstageError]) -> FinstageError:
    if cls.__init__ is Exception.__init__:
        return cls("what went wrong")
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    assert all(p.kind is not p.KEYWORD_ONLY for p in parameters)
    values = [SAMPLES.get(str(p.annotation), ("query", "name")) for p in parameters]
    if cls.__init__ is FinstageError.__init__ or not parameters:
        values = ["what went wrong"]
    return cls(*values[: len(parameters) or 1])


@pytest.mark.parametrize("cls", list(all_errors()))
def test_error_survives_pickling(cls: type[FinstageError]) -> None:
    error = made(cls)

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is cls
    assert copy.args == error.args
    assert copy.message == error.message
    assert copy.context == error.context
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("cls", list(all_errors()))
def test_error_has_a_status_a_code_and_one_line(cls: type[FinstageError]) -> None:
    error = made(cls)

    assert 400 <= cls.status_code < 600
    assert cls.code.isidentifier()
    assert "\n" not in error.message
    assert str(error) == error.message
    assert error_body(error).startswith(b'{"detail":')


def test_only_the_base_and_the_families_share_codes() -> None:
    codes: dict[str, list[str]] = {}
    for cls in all_errors():
        if "code" in vars(cls):
            codes.setdefault(cls.code, []).append(cls.__name__)

    assert {code: names for code, names in codes.items() if len(names) > 1} == {}


async def test_a_bug_is_answered_with_the_id_that_its_line_in_the_log_has(
    local: LocalService, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ids.append(current_request_id())

    monkeypatch.setattr(local.feed, "monitored", None)
    logger = logging.getLogger("serve.edge.errors")
    logger.addHandler(kept := Kept())
    try:
        answer = await client.get(
            "/api/v2/technical-analysis/prices/monitor", headers={"x-request-id": "abc-123"}
        )
    finally:
        logger.removeHandler(kept)

    assert answer.status_code == 500
    assert answer.json()["detail"]["request_id"] == "abc-123"
    assert ids == ["abc-123"]
