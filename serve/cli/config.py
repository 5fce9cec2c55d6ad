"""`finstage config`: every setting, for people and for programs."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from infra.settings import PREFIX, Settings, masked, origin_of
from serve.cli.listing import print_json


def show_config(settings: Settings, console: Console, as_json: bool) -> None:
    """Print each setting with its value, where that came from and what it means."""
    rows = [
        {
            "setting": PREFIX + field.upper(),
            "value": masked(settings, field),
            "from": origin_of(settings, field),
            "meaning": info.description or "",
        }
        for field, info in Settings.model_fields.items()
    ]
    if as_json:
        print_json(console, rows)
        return
    for row in rows:  # name and value in one line, whole at any width
        console.print(
            Text(f"{row['setting']}={row['value']}").append(f"  {row['from']}", "cyan"),
            soft_wrap=True,
        )
        console.print(Padding(Text(row["meaning"], "dim"), (0, 0, 0, 2)))
