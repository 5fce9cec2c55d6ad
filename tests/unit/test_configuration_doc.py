"""The page of the settings says what the settings are."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import PREFIX, Settings
from serve.cli.confdoc import render

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_the_one_that_the_settings_make() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "docs/configuration.md is not of these settings: "
        "python -m serve.cli.confdoc > docs/configuration.md"
    )


@pytest.mark.parametrize("field", Settings.model_fields)
def test_each_setting_has_one_row(field: str) -> None:
    assert render().count(f"| `{PREFIX}{field.upper()}` |") == 1


def test_bounds_and_defaults_are_shown_as_they_are_set() -> None:
    rows = {line.split("`")[1]: line for line in render().splitlines() if line.startswith("| `")}

    assert "| `8000` | ≥ `1`, ≤ `65535` |" in rows["FINSTAGE_PORT"]
    assert "| `120` | > `0` |" in rows["FINSTAGE_HUB_HISTORY_S"]
    assert "| `67108864` (64 MiB) | ≥ `0` |" in rows["FINSTAGE_NEAR_CACHE_BYTES"]
    assert "| empty | |" in rows["FINSTAGE_API_KEYS"]
    assert "`DEBUG` or `INFO`" in rows["FINSTAGE_LOG_LEVEL"]
