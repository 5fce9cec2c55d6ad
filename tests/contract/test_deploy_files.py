"""The unit and the image start the service as it is: its settings, its files, its times."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from typer.main import get_command

from infra.errors import ConfigError
from infra.settings import PREFIX, Settings, load_settings
from serve.cli.head import haproxy_maxconn
from serve.cli.main import app

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "finstage.service"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
IGNORED = ROOT / ".dockerignore"
_SETTING = re.compile(rf"\b{PREFIX}[A-Z_]*[A-Z]\b")


def unit_text() -> str:
    return UNIT.read_text(encoding="utf-8")


def unit() -> dict[str, list[str]]:
    """Return the unit's settings; those that stand several times have several values."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name].append(value)
    return found


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions in order, continued lines as one."""
    lines = [
        line
        for line in DOCKERFILE.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in whole.split("\n") if line)
    ]


def of_image(word: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == word]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in of_image("ENV") for pair in line.split())


def settings_named_in(text: str) -> set[str]:
    return set(_SETTING.findall(text))


KNOWN = {PREFIX + field.upper() for field in Settings.model_fields}


@pytest.mark.parametrize("path", [UNIT, DOCKERFILE], ids=lambda path: path.name)
def test_each_setting_that_is_named_exists(path: Path) -> None:
    named = settings_named_in(path.read_text(encoding="utf-8"))

    assert named
    assert named <= KNOWN


def test_the_unit_starts_a_command_that_there_is() -> None:
    (start,) = unit()["ExecStart"]
    program, command = start.split(" ")

    assert program.endswith("/.venv/bin/finstage")
    assert Path(program).parents[2] == Path(unit()["WorkingDirectory"][0])
    assert command in getattr(get_command(app), "commands", {})


def test_the_unit_waits_longer_than_a_stop_takes() -> None:
    assert float(unit()["TimeoutStopSec"][0]) > Settings.model_fields["stop_s"].default + 5
    assert unit()["KillMode"] == ["mixed"]


def test_the_unit_gives_haproxy_the_files_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    files = int(unit()["LimitNOFILE"][0])
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))

    assert haproxy_maxconn(load_settings({}, haproxy_maxconn=0)) > 30_000


def test_the_unit_starts_again_what_failed_but_not_what_cannot_work() -> None:
    assert unit()["Restart"] == ["on-failure"]
    assert unit()["RestartPreventExitStatus"] == ["2"]
    assert unit()["OOMPolicy"] == ["continue"]


def test_the_unit_keeps_data_where_its_own_user_may_write() -> None:
    names = [value.partition("=") for value in unit()["Environment"]]
    given = {name: value for name, _, value in names}

    assert unit()["User"] == ["finstage"]
    assert given["FINSTAGE_DATA_DIR"] == f"/var/lib/{unit()['StateDirectory'][0]}"
    assert given["NUMBA_CACHE_DIR"] == f"/var/cache/{unit()['CacheDirectory'][0]}"
    assert unit()["EnvironmentFile"] == ["-/etc/finstage/finstage.env"]


def test_the_unit_hardens_nothing_that_ray_needs() -> None:
    given = unit()

    assert given["NoNewPrivileges"] == ["yes"]
    assert given["ProtectSystem"] == ["strict"]
    assert "/tmp" in given["ReadWritePaths"][0].split()
    assert {"AF_INET", "AF_UNIX", "AF_NETLINK"} <= set(given["RestrictAddressFamilies"][0].split())
    assert not {"MemoryDenyWriteExecute", "PrivateTmp", "PrivateUsers"} & given.keys()


def test_systemd_itself_accepts_the_unit(tmp_path: Path) -> None:
    """Its program is not where the unit says on this machine: another stands in for it."""
    program = unit()["ExecStart"][0].split(" ")[0]
    copy = tmp_path / UNIT.name
    copy.write_text(unit_text().replace(program, "/bin/true"), encoding="utf-8")
    if (path := shutil.which("systemd-analyze")) is None:
        assert set(re.findall(r"^\[(\w+)\]$", unit_text(), re.M)) == {"Unit", "Service", "Install"}
        return

    done = subprocess.run(
        [path, "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )

    told = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert (done.returncode, told) == (0, [])


def test_the_image_has_a_python_that_the_project_allows() -> None:
    assert {base.split()[0] for base in of_image("FROM")} == {"python:3.11-slim"}


def test_the_image_is_made_of_files_that_there_are_and_are_not_ignored() -> None:
    copied = [rest.split()[:-1] for rest in of_image("COPY") if not rest.startswith("--from")]
    rules = [line for line in IGNORED.read_text().splitlines() if line and line[0] != "#"]
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    names = {name for line in copied for name in line}

    assert rules[0] == "*"
    assert names == let_in
    assert {name for name in names if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("secret", [".env", ".git", ".venv", "var", "tests", "infra/__pycache__"])
def test_what_is_secret_or_of_no_use_stays_out_of_the_image(secret: str) -> None:
    rules = [line for line in IGNORED.read_text().splitlines() if line and line[0] != "#"]
    is_out = False
    for rule in rules:  # the last that fits decides, as Docker has it
        pattern = rule.removeprefix("!")
        if pattern.startswith("**/"):
            fits = fnmatch.fnmatch(Path(secret).name, pattern[3:])
        else:
            fits = pattern == "*" or secret == pattern or secret.startswith(pattern + "/")
        if fits:
            is_out = not rule.startswith("!")

    assert is_out


def test_the_image_has_all_that_the_package_is_built_of() -> None:
    copied = " ".join(of_image("COPY"))

    for needed in ("pyproject.toml", "README.md", "LICENSE", "finstage.py", "requirements.lock"):
        assert needed in copied
    for package in ("infra", "actors", "pipelines", "serve"):
        assert f"{package} ./{package}" in copied


def test_what_the_lock_pins_is_what_the_image_installs() -> None:
    (install,) = [line for line in of_image("RUN") if "pip install" in line]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()

    assert "--constraint requirements.lock" in install
    # pip takes no constraint with extras, and none that is a URL or a path
    pins = [line for line in lock if line and line[0] not in " #"]
    assert pins
    assert [pin for pin in pins if not re.match(r"[A-Za-z0-9._-]+==\S+( ;.*)?$", pin)] == []


def test_the_container_runs_as_another_user_than_root() -> None:
    words = [instruction for instruction, _ in instructions()]
    (user,) = of_image("USER")

    assert user == "finstage"
    assert f"useradd --system --uid 10001 --create-home --home-dir /var/lib/{user} {user}" in (
        " ".join(of_image("RUN"))
    )
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert not {"ADD", "SHELL"} & set(words)


def test_the_container_starts_the_service_on_a_port_that_is_exposed() -> None:
    given = environment()

    assert of_image("ENTRYPOINT") == ['["finstage"]']
    assert of_image("CMD")[-1] == '["up"]'
    assert given["FINSTAGE_PORT"] == of_image("EXPOSE")[0]
    assert of_image("VOLUME") == [given["FINSTAGE_DATA_DIR"]]


def test_the_container_is_healthy_when_the_service_is_ready() -> None:
    (check,) = of_image("HEALTHCHECK")

    assert "/health/ready" in check
    assert "FINSTAGE_PORT" in check


def test_the_image_holds_no_key_and_says_that_it_needs_one() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")

    with pytest.raises(ConfigError, match="FINSTAGE_API_KEYS"):
        load_settings({}, host=environment()["FINSTAGE_HOST"], api_keys="")
    assert not {"FINSTAGE_API_KEYS", "FINSTAGE_DATABASE_URL"} & environment().keys()
    assert "refused without FINSTAGE_API_KEYS" in text
    assert "--shm-size=1g" in text


def test_the_page_gives_the_container_what_its_file_says() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    run = re.search(r"^#   (docker run(?:.*\\\n)*.*)$", DOCKERFILE.read_text(), re.MULTILINE)

    assert run is not None
    options = set(re.findall(r"--[a-z-]+=?\S*", run[1].replace("#", "")))
    assert options <= set(re.findall(r"--[a-z-]+=?[^\s`]*", page))
