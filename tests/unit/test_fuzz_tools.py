"""What `make fuzz` sends: the same of the same seed, as it is told for a shell, made smaller."""

from __future__ import annotations

import random
import shlex
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.fuzz import files, frames, http, values
from tests.fuzz.findings import Finding, Findings, LogWatch
from tests.fuzz.http import Request, Routes
from tests.local import LocalService


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Routes:
    return Routes(LocalService(tmp_path_factory.mktemp("api")).app.openapi())


def test_every_route_is_drawn_and_a_seed_draws_the_same_again(routes: Routes) -> None:
    def drawn(seed: int) -> list[Request]:
        draws = random.Random(seed)
        return [routes.request(draws) for _ in range(4_000)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({(request.method, request.path) for request in drawn(1)}) > len(routes.all)
    assert not any("{" in request.path for request in drawn(1))


def test_frames_and_events_of_a_seed_are_the_same() -> None:
    assert repr([frames.frame(random.Random(n)) for n in range(200)]) == repr(
        [frames.frame(random.Random(n)) for n in range(200)]
    )
    assert http.events(random.Random(3)) == http.events(random.Random(3))
    assert http.beside(random.Random(3)) == http.beside(random.Random(3))


@pytest.mark.parametrize("body", [b'{"a":"\\ud800 \'%s"}', b"\x00\xff\n", b"", "é".encode()])
def test_the_line_for_a_shell_sends_the_same_body(body: bytes, tmp_path: Path) -> None:
    line = Request("POST", "/a", ("x=%20",), (("x-y", "it's"),), body).curl("http://127.0.0.1:1")
    first, pipe, rest = line.partition(" | curl ")
    assert pipe
    done = subprocess.run(["bash", "-c", first], capture_output=True, check=True)
    assert done.stdout == body
    words = shlex.split(rest)
    assert "http://127.0.0.1:1/a?x=%20" in words
    assert "x-y: it's" in words


def test_a_request_gets_smaller_by_one_thing() -> None:
    request = Request("GET", "/a", ("x=1", "y=2"), (("h", "v"),))
    assert [(r.query, r.headers) for r in request.smaller()] == [
        (("y=2",), (("h", "v"),)),
        (("x=1",), (("h", "v"),)),
        (("x=1", "y=2"), ()),
    ]


def test_what_is_raw_stands_as_it_is() -> None:
    assert values.json_text({"a": [values.Raw("NaN"), "x"]}) == '{"a":[NaN,"x"]}'


def test_a_fault_is_told_once_and_counted(tmp_path: Path) -> None:
    found = Findings()
    assert found.is_new("k")
    found.add("k", Finding("answer", "500", "curl"))
    assert not found.is_new("k")
    assert found.by_key["k"].count == 2


def test_tracebacks_are_found_once_and_only_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "api-1.jsonl"
    line = orjson.dumps({"level": "ERROR", "event": "x", "traceback": "a\nE: b"}) + b"\n"
    path.write_bytes(line)
    watch = LogWatch(tmp_path)
    assert watch.tracebacks() == []
    with path.open("ab") as file:
        file.write(b'{"level":"INFO","event":"y"}\n' + line + line[:10])
    assert [told["event"] for told in watch.tracebacks()] == ["x"]
    with path.open("ab") as file:
        file.write(line[10:])
    assert len(watch.tracebacks()) == 1
    assert watch.tracebacks() == []


def test_files_of_all_kinds_are_made(tmp_path: Path) -> None:
    names = {files.made(random.Random(n), tmp_path).name.partition(".")[2] for n in range(12)}
    assert names == {"csv", "csv.gz", "parquet"}
