"""Settings for tests: given values, no `.env`."""

from __future__ import annotations

from typing import Any

from infra.settings import Settings


def made_settings(**values: Any) -> Settings:
    """Return settings with these values over the defaults and the environment."""
    arguments: dict[str, Any] = {"_env_file": None, **values}
    return Settings(**arguments)
