"""The routes of an application, as they are declared."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute


class Routes:
    """Finds which route a request goes to, before the application does.

    By the router's own patterns: several paths lead to one route, `/ws/clients%0A` to
    `/ws/clients`.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._known = [
            (c.path_regex, c.path or "", c.methods) for c in iter_route_contexts(routes)
        ]

    def answering(self, path: str, method: str) -> str:
        """Return the route that answers, also that a method is not allowed; "" without one."""
        other = ""
        for pattern, declared, methods in self._known:
            if pattern.match(path):
                if methods is None or method in methods:
                    return declared
                other = other or declared
        return other
