"""Files that a command writes."""

from __future__ import annotations

from pathlib import Path

from infra.errors import ConfigError


def need_new_file(path: Path) -> None:
    """Raise ConfigError if a file is there already, or its folder is not."""
    if path.exists():
        raise ConfigError(f"{path} is there already: choose another file, or remove it")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}")
