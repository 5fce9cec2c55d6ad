"""Finstage for Python users: `connect()` joins the service's Ray, `Client` speaks HTTP,
`StreamClient` WebSocket.

Nothing heavy is imported before it is used; nothing of the project imports this module.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.errors import FinstageError, SymbolUnknown
    from pipelines.driver import connect
    from serve.client.http import Client
    from serve.client.stream import StreamClient, StreamRefused

__all__ = [
    "Client",
    "FinstageError",
    "StreamClient",
    "StreamRefused",
    "SymbolUnknown",
    "connect",
    "main",
]

_HOME = {
    "connect": "pipelines.driver",
    "Client": "serve.client.http",
    "StreamClient": "serve.client.stream",
    "StreamRefused": "serve.client.stream",
    "FinstageError": "infra.errors",
    "SymbolUnknown": "infra.errors",
}
_PACKAGES = ("infra", "actors", "pipelines", "serve")


def _check_packages() -> None:
    """Refuse to start where another package of the same name stands before ours."""
    own = Path(__file__).resolve().parent
    for name in _PACKAGES:
        found = importlib.util.find_spec(name)
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin is None or origin.parent.parent != own:
            raise ImportError(
                f"the package {name!r} is found at {origin}, not beside {own / 'finstage.py'}: "
                "remove the other one from the path"
            )


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'finstage' has no attribute {name!r}")
    _check_packages()
    return getattr(importlib.import_module(_HOME[name]), name)


def main() -> None:
    """Run the command line."""
    _check_packages()
    importlib.import_module("serve.cli").run()


if __name__ == "__main__":
    main()
