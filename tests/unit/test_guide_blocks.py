"""The README and docs say what is there: commands, options, settings, routes, links."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import typer
import typer.core
import typer.main

from infra.errors import OriginRefused
from infra.notify.signing import new_secret, signed_headers
from infra.settings import PREFIX, Settings
from infra.universe import load_universe
from serve.cli.main import app
from serve.edge.gate import Gate
from serve.web.pages import ASSETS
from tests.elsewhere import ELSEWHERE, Why
from tests.guides import (
    FILES,
    GUIDES,
    NOTEBOOK,
    PAGES,
    ROOT,
    SERVICE,
    Block,
    all_blocks,
    blocks,
    clone,
    commands,
    ends,
    here,
    in_one_shell,
    outputs,
    page_text,
    run_cells,
)
from tests.local import LocalService
from tests.settings import made_settings

FIRST_RESULT_LINES = 10
RUN = ("console", "html", "python", "toml")  # languages that a test runs
SHOWN = ("", "json")  # what is printed and sent; there are no others
_TYPED = re.compile(
    r"^\s*(?:\$ |make (?:run|setup|test)\b|\S*finstage \w|curl |python|[A-Z_]+=)", re.MULTILINE
)
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


def test_each_page_is_looked_at_under_a_name_of_its_own() -> None:
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/use/*.md")]
    assert sorted(FILES.values()) == sorted(found)
    assert {page for page in PAGES if FILES[page].parent.name == "use"} == set(GUIDES)


@pytest.mark.parametrize("page", GUIDES)
def test_a_page_begins_with_a_sentence_and_a_first_result(page: str) -> None:
    heading, sentence, *_ = page_text(page).split("\n\n")
    first = blocks(page)[0]

    assert heading.startswith("# ")
    assert sentence.startswith("For ")
    assert first.line <= 7
    assert len(first.text.splitlines()) <= FIRST_RESULT_LINES


@pytest.mark.parametrize("block", all_blocks(), ids=lambda block: block.name)
def test_each_block_is_of_a_kind_that_a_test_runs(block: Block) -> None:
    assert block.language in RUN + SHOWN, block.where
    if block.language == "":
        assert not _TYPED.search(block.text), f"{block.where}: to be typed, so `console`"
    if block.language == "json":
        assert block.page == "protocol", f"{block.where}: nothing sends it"
    if block.language == "console":
        assert commands(block), f"{block.where}: no line begins with `$ `"


@pytest.mark.parametrize("page", PAGES)
def test_no_fence_is_left_over(page: str) -> None:
    assert page_text(page).count("```") == 2 * len(blocks(page))


@pytest.mark.parametrize("block", all_blocks("python"), ids=lambda block: block.name)
def test_python_compiles(block: Block) -> None:
    is_cell = block.page == NOTEBOOK or block.awaits
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if is_cell else 0
    compile(block.text, block.where, "exec", flags=flags)


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
            if where in PAGES and all(word.isalpha() for word in arguments):
                continue  # the text only names the command
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
    assert links or page not in GUIDES
    for link in links:
        name, _, anchor = link.partition("#")
        target = FILES[page].parent / name if name else FILES[page]
        assert target.exists(), f"{page}: {link}"
        if anchor and target.suffix == ".md":
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


def test_thresholds_are_read_as_the_page_writes_them(tmp_path: Path) -> None:
    (block,) = all_blocks("toml")
    path = tmp_path / "thresholds.toml"
    path.write_text(block.text)
    universe = load_universe(path)
    assert universe.thresholds("AAPL").price_rise_pct == 1.5
    assert universe.thresholds("^GSPC").drop_from_high_pct == -5.0
    assert universe.thresholds("NEW").price_drop_pct == -4.0


def test_the_check_of_a_signature_takes_ours_and_no_other() -> None:
    namespace: dict[str, Any] = {}
    exec(blocks("alerts", "python")[0].text, namespace)
    secret, body = new_secret(), b'{"a":1}'
    headers = signed_headers(secret, "17", int(time.time()), body)
    assert namespace["is_ours"](secret, headers, body)
    assert not namespace["is_ours"](secret, headers, body + b" ")


# -- what the other tests stand on -------------------------------------------------------------


def test_what_is_run_elsewhere_is_on_a_page_and_in_that_test() -> None:
    told = {command for block in all_blocks("console") for command in commands(block)}
    assert set(ELSEWHERE) <= told
    assert {why for why, _ in ELSEWHERE.values()} == set(Why)
    for command, (_, test) in ELSEWHERE.items():
        path, _, name = test.partition("::")
        mark = f"{name}:" if path == "Makefile" else f"def {name}("
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


def test_a_here_document_and_a_comment_are_of_their_command() -> None:
    text = "$ python - <<'EOT'\nprint('#')\n$ no\nEOT\nshown\n$ ls  # what's there\n"
    assert commands(Block("x", "console", 1, 1, text)) == [
        "python - <<'EOT'\nprint('#')\n$ no\nEOT",
        "ls",
    ]


def test_commands_share_a_shell_and_each_tells_how_it_ended() -> None:
    script = in_one_shell(["x=2", "printf $x", "cat <<'EOT'\na b\nEOT", "false"])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert ends(done.stdout) == [("", 0), ("2", 0), ("a b\n", 0), ("", 1)]


def test_a_clone_has_no_settings_and_the_files_of_the_pages(tmp_path: Path) -> None:
    folder = clone(tmp_path)
    assert not (folder / ".env").exists()
    assert {"risk.py", "steps.py", "README.md", ".venv"} <= {p.name for p in folder.iterdir()}


async def test_cells_share_names_await_and_show_their_last_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    await run_cells(["import asyncio\nx = 20", "await asyncio.sleep(0, x + 1)", "print(x)\nNone"])
    assert list(outputs(capsys.readouterr().out)) == ["", "21\n", "20\n"]
