"""Answers made before they are asked for: of symbols that the monitor names."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from infra.directives import following
from infra.errors import FinstageError
from serve.rest.questions import default_question
from serve.rest.services import Services


@dataclass(slots=True)
class Prefetch:
    """Keeps the usual indicators of some symbols in the near cache. State: what was made, soft."""

    services: Services
    _made: dict[str, str] = field(default_factory=dict)  # the data version, by symbol

    async def look(self) -> None:
        """Make what is wanted and not of the newest data."""
        near = self.services.near
        for symbol in following.now.prefetch:
            version = near.versions.get(symbol)
            if version is None or self._made.get(symbol) == version:
                continue
            self._made[symbol] = version
            with contextlib.suppress(FinstageError):  # who asks for it will be told
                await default_question(symbol).answer(self.services)
