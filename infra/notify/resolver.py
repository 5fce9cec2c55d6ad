"""Names looked up for webhooks, with only public addresses as answers."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from infra.notify.addresses import is_public


class AddressRefused(OSError):
    """Raised when a name means only addresses that nothing may be sent to."""


class GuardedResolver(AbstractResolver):
    """Resolves names to public addresses only, for the connection that is about to be made.

    So a name that answered otherwise when it was checked (DNS rebinding) gains nothing.
    """

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the public addresses of a name; raises AddressRefused where it has none."""
        found = await self._resolver.resolve(host, port, family)
        public = [result for result in found if is_public(result["host"])]
        if not public:
            raise AddressRefused(f"{host} is no public address")
        return public

    async def close(self) -> None:
        """Let the resolver go."""
        await self._resolver.close()
