"""The pages in docs/use say what is there: commands, options, settings, routes, links."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import typer
import typer.core
import typer.main

from infra.errors import OriginRefused
from infra.settings import PREFIX, Settings
from serve.cli import app
from serve.gate import Gate
from serve.web.pages import ASSETS
from tests.guides import (
    ELSEWHERE,
    FOLDER,
    NOTEBOOK,
    PAGES,
    ROOT,
    SERVICE,
    Block,
    all_blocks,
    blocks,
    commands,
    here,
    outputs,
    page_text,
    run_cells,
)
from tests.local import LocalService
from tests.settings import made_settings

FIRST_RESULT_LINES = 10
RUN = ("console", "html", "python")  # languages that a test runs; there are no others
# Not in the OpenAPI document: pages, and what the stream application answers.
BESIDE = {"/", "/tasks", "/docs", "/openapi.json", "/ws/demo", "/ws/realtime", "/ws/sse"}
EVENT_QUERY = {"symbols", "type", "mode", "fields", "max_rate_hz", "interval", "indicators"}

_HOST = re.compile(r"(?:https?|wss?)://" + re.escape(SERVICE))
_HOLE = re.compile(r"\$?\{[^{}]*\}")  # of an f-string or a template
_URL = re.compile(
    r"(?<![\w.~/-])(/(?:api|ws|health|metrics|assets|docs|openapi\.json|tasks)\b[^\s\"'`?]*)"
    r"(?:\?([^\s\"'`]*))?"
)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


def urls(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield the paths of a block, `{}` for what it computes, with the names of their queries."""
    text = _HOLE.sub("{}", _HOST.sub("", block.text))
    for path, query in _URL.findall(text):
        yield path, [name for name, _ in parse_qsl(query, keep_blank_values=True)]


def fits(path: str, template: str) -> bool:
    given, wanted = path.split("/"), template.split("/")
    return len(given) == len(wanted) and all(
        there == part or "{" in part or there == "{}"
        for there, part in zip(given, wanted, strict=True)
    )


def finstage_calls(command: str) -> Iterator[list[str]]:
    """Yield the arguments of each `finstage` in a shell's line."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("|&;<>"):
            for place, word in enumerate(words):
                if word.endswith("bin/finstage") or (place == 0 and word == "finstage"):
                    yield words[place + 1 :]
            words = []
        else:
            words.append(token)


def check_call(arguments: list[str]) -> None:
    """Parse a command line as the program would, without running it; raises its usage error."""
    command: Any = typer.main.get_command(app)
    left = list(arguments)
    while isinstance(command, typer.core.TyperGroup) and left and not left[0].startswith("-"):
        name = left.pop(0)
        assert name in command.commands, f"finstage has no command {name!r}"
        command = command.commands[name]
    command.make_context("finstage", left)


def slug(heading: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The paths of the OpenAPI document."""
    paths: dict[str, Any] = LocalService(tmp_path_factory.mktemp("api")).app.openapi()["paths"]
    return paths


# -- the blocks themselves ---------------------------------------------------------------------


def test_there_are_these_pages_and_no_others() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_begins_with_a_sentence_and_a_first_result(page: str) -> None:
    heading, sentence, *_ = page_text(page).split("\n\n")
    first = blocks(page)[0]

    assert heading.startswith("# ")
    assert sentence.startswith("For ")
    assert first.line <= 7
    assert len(first.text.splitlines()) <= FIRST_RESULT_LINES


@pytest.mark.parametrize("block", all_blocks(), ids=lambda block: block.name)
def test_each_block_is_of_a_kind_that_a_test_runs(block: Block) -> None:
    assert block.language in RUN, block.where
    if block.language == "console":
        assert commands(block), f"{block.where}: no line begins with `$ `"


@pytest.mark.parametrize("page", PAGES)
def test_no_fence_is_left_over(page: str) -> None:
    assert page_text(page).count("```") == 2 * len(blocks(page))


@pytest.mark.parametrize("block", all_blocks("python"), ids=lambda block: block.name)
def test_python_compiles(block: Block) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if block.page == NOTEBOOK else 0
    compile(block.text, block.where, "exec", flags=flags)


@pytest.mark.parametrize("block", all_blocks("python"), ids=lambda block: block.name)
def test_python_says_where_the_service_is(block: Block) -> None:
    """Else the block would ask whatever runs on the default port, and not the test's service."""
    assert not re.search(r"(?<!\w)(?:Stream)?Client\(\s*(?:\)|api_key)", block.text), block.where
    assert SERVICE in block.text or not re.search(r"StreamClient|finstage\.Client", block.text)


# -- what they name ----------------------------------------------------------------------------


def spoken() -> list[tuple[str, str]]:
    """Return every command with its place: of console blocks, and in the text."""
    told = [(block.where, one) for block in all_blocks("console") for one in commands(block)]
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page_text(page), flags=re.DOTALL)
        told += [(page, code) for code in _CODE.findall(prose) if code.startswith("finstage ")]
    return [(where, one) for where, one in told if "finstage " in one]


@pytest.mark.parametrize(("where", "command"), spoken(), ids=lambda value: value[:60])
def test_each_finstage_command_and_option_exists(where: str, command: str) -> None:
    for arguments in finstage_calls(command):
        try:
            check_call(arguments)
        except typer.TyperException as error:
            pytest.fail(f"{where}: {command}: {error}")


def test_a_wrong_option_or_command_would_be_found() -> None:
    with pytest.raises(typer.TyperException, match="--detached"):
        check_call(["up", "--detached"])
    with pytest.raises(AssertionError, match="statuses"):
        check_call(["statuses"])
    assert list(finstage_calls("a && .venv/bin/finstage jobs run x | head; finstage down")) == [
        ["jobs", "run", "x"],
        ["down"],
    ]


@pytest.mark.parametrize("block", all_blocks(), ids=lambda block: block.name)
def test_each_path_and_query_exists(block: Block, documented: dict[str, Any]) -> None:
    for path, names in urls(block):
        if path.startswith("/assets/"):
            assert (ASSETS / path.removeprefix("/assets/")).is_file(), f"{block.where}: {path}"
        elif path in BESIDE:
            allowed = EVENT_QUERY if path == "/ws/sse" else set()
            assert set(names) <= allowed, f"{block.where}: {path} takes no {names}"
        else:
            found = [template for template in documented if fits(path, template)]
            assert found, f"{block.where}: there is no {path}"
            takes = {
                parameter["name"]
                for template in found
                for parameter in documented[template].get("get", {}).get("parameters", [])
                if parameter["in"] == "query"
            }
            assert set(names) <= takes, f"{block.where}: {path} takes no {set(names) - takes}"


def test_paths_are_found_however_a_block_makes_them() -> None:
    made = Block(
        "x", "python", 1, 1, f'f"{{RULES}}/x", "http://{SERVICE}/api/v2/quotes?symbols=A"'
    )
    held = Block("x", "html", 1, 1, "`${service}/api/v2/prices/${symbol}/history?period=1y`")
    assert list(urls(made)) == [("/api/v2/quotes", ["symbols"])]
    assert list(urls(held)) == [("{}/api/v2/prices/{}/history".removeprefix("{}"), ["period"])]
    assert not fits("/api/v2/prices/history", "/api/v2/prices/{symbol}/history")


@pytest.mark.parametrize("page", PAGES)
def test_each_setting_exists(page: str) -> None:
    named = set(re.findall(rf"\b{PREFIX}([A-Z_]+[A-Z])\b", page_text(page)))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


@pytest.mark.parametrize("page", PAGES)
def test_each_link_leads_somewhere(page: str) -> None:
    prose = re.sub(r"```.*?```", "", page_text(page), flags=re.DOTALL)
    links = [link for link in _LINK.findall(prose) if "://" not in link]
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = FOLDER / name if name else FOLDER / f"{page}.md"
        assert target.exists(), f"{page}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page}: {link}"


def test_the_origin_of_the_dashboard_is_admitted_once_it_is_set() -> None:
    (origin,) = re.findall(r"FINSTAGE_CORS_ORIGINS=(\S+)", page_text("dashboard"))
    served = f"python3 -m http.server {origin.rpartition(':')[2]} --bind 127.0.0.1"
    scope = {
        "type": "websocket",
        "path": "/ws/realtime",
        "query_string": b"",
        "headers": [(b"host", SERVICE.encode()), (b"origin", origin.encode())],
    }

    assert served in ELSEWHERE
    Gate(made_settings(cors_origins=origin)).admit(scope)
    with pytest.raises(OriginRefused):
        Gate(made_settings()).admit(scope)


def test_the_unit_is_what_the_page_says() -> None:
    unit = (ROOT / "deploy" / "systemd" / "finstage.service").read_text(encoding="utf-8")
    values = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    said = page_text("server")

    assert f" --shell /usr/sbin/nologin {values['User']}\n" in said
    assert f"`{values['WorkingDirectory']}`" in said
    assert f"/dev/null {values['EnvironmentFile'].removeprefix('-')}\n" in said
    assert f"{values['WorkingDirectory']}/.venv/bin/finstage" in said
    assert "Environment=FINSTAGE_DATA_DIR=/var/lib/finstage\n" in unit


# -- what the other tests stand on -------------------------------------------------------------


def test_what_is_run_elsewhere_is_on_a_page_and_in_that_test() -> None:
    told = {command for block in all_blocks("console") for command in commands(block)}
    assert set(ELSEWHERE) <= told
    for command, (why, test) in ELSEWHERE.items():
        path, _, name = test.partition("::")
        mark = f"{name}:" if path == "Makefile" else f"def {name}("
        assert why
        assert mark in (ROOT / path).read_text(encoding="utf-8"), f"{command}: no {test}"


def test_a_command_goes_on_while_a_quote_or_a_backslash_is_open() -> None:
    text = '$ curl -d \'{"a":\n  1}\' \\\n    http://x\n{"answer": 1}\n$ ls\n'
    assert commands(Block("x", "console", 1, 1, text)) == [
        "curl -d '{\"a\":\n  1}' \\\n    http://x",
        "ls",
    ]


@pytest.mark.parametrize("block", all_blocks(), ids=lambda block: block.name)
def test_a_block_is_turned_to_the_service_of_a_test(block: Block) -> None:
    text = here(block.text, "http://127.0.0.1:8123", Path("/nowhere"))
    assert SERVICE not in text
    assert not re.search(r"(?<![\w/])\.venv/", text)


async def test_cells_share_names_await_and_show_their_last_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    await run_cells(["import asyncio\nx = 20", "await asyncio.sleep(0, x + 1)", "print(x)\nNone"])
    assert list(outputs(capsys.readouterr().out)) == ["", "21\n", "20\n"]
