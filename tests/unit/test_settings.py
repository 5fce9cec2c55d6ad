"""Settings: a wrong one is one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import ConfigError
from infra.settings import Settings, load_settings, masked, parse_keys
from tests.settings import made_settings


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_unknown_name_stops_the_start_and_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="FINSTAGE_PROT.*did you mean FINSTAGE_PORT"):
        load_settings({"FINSTAGE_PROT": "1"})


def test_an_unknown_name_in_the_env_file_stops_the_start_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FINSTAGE_SORCE=replay\n")

    with pytest.raises(ConfigError, match="FINSTAGE_SOURCE"):
        load_settings({})


def test_the_env_file_gives_values_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("FINSTAGE_PORT=8111\nFINSTAGE_SYMBOLS=AAPL, IBM\n")
    from_file = load_settings()
    monkeypatch.setenv("FINSTAGE_PORT", "8222")

    assert (from_file.port, from_file.symbols) == (8111, ("AAPL", "IBM"))
    assert load_settings().port == 8222


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FINSTAGE_PORT", "99999", "FINSTAGE_PORT: "),
        ("FINSTAGE_SOURCE", "bloomberg", "FINSTAGE_SOURCE: 'bloomberg' is no source; use"),
        ("FINSTAGE_SOURCE", "yahoo,replay", "FINSTAGE_SOURCE: a chain holds live sources only"),
        ("FINSTAGE_API_KEYS", "bot", "FINSTAGE_API_KEYS: entry 1 must be name:key"),
    ],
)
def test_a_wrong_value_is_named(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        load_settings()

    assert caught.value.message.startswith(says)
    assert "\n" not in caught.value.message


def test_an_open_address_needs_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINSTAGE_HOST", "0.0.0.0")

    with pytest.raises(ConfigError, match="FINSTAGE_API_KEYS"):
        load_settings()
    monkeypatch.setenv("FINSTAGE_API_KEYS", "bot:0123456789")
    assert load_settings().host == "0.0.0.0"


def test_keys_are_never_shown() -> None:
    settings = made_settings(api_keys="bot:0123456789")

    assert masked(settings, "api_keys") == "bot:********"
    assert "0123456789" not in repr(settings)
    with pytest.raises(ValueError, match="twice") as caught:
        parse_keys("bot:0123456789,bot:9876543210")
    assert "9876543210" not in str(caught.value)


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_says_what_it_is(field: str) -> None:
    assert Settings.model_fields[field].description
