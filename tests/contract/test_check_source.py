"""What is wrong with the source's settings is said in one line, before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from infra.errors import ConfigError
from serve.cli.up import check_source
from tests.settings import made_settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"symbols": "AAPL,APPL"}, "FINSTAGE_SYMBOLS: symbol 'APPL' is not known"),
        ({"source": "simulated", "symbols": "AAPL"}, "FINSTAGE_SYMBOLS: symbol 'AAPL'"),
        ({"source": "simulated", "simulated_faults": "flood:*@1+2"}, "'simulated' cannot start"),
        ({"source": "simulated", "simulated_faults": "gap:SIM9999@1+2"}, "SIM9999"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_source(made_settings(**settings))

    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"symbols": "AAPL,^GSPC"},
        {"source": "simulated", "symbols": "SIM0001", "simulated_faults": "gap:*@1+2"},
        {"source": "yahoo", "symbols": "ANY.THING"},  # Yahoo is not asked before it is needed
    ],
)
def test_right_settings_pass(settings: dict[str, Any]) -> None:
    check_source(made_settings(**settings))
