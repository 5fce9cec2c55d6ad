"""Who is connected, here and in the other replicas, and what is said of them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from infra.errors import ActorUnavailable
from serve.ws.protocol import Session
from serve.ws.sockets import SocketTable

_MOST_TOLD = 1_000  # clients of another replica
_SUMMED = (
    "active_connections", "total_connections", "total_messages_sent", "total_errors",
)  # fmt: skip


class Notes(Protocol):
    """Where replicas leave word for each other."""

    async def note(self, process: str, text: bytes) -> None:
        """Say something of a process."""

    async def notes(self) -> dict[str, bytes]:
        """Return what processes said lately."""


class Roster:
    """The sessions of one replica, and what the others said of theirs. State: soft."""

    def __init__(self, table: SocketTable, process: str, notes: Notes) -> None:
        self._table = table
        self._process = process
        self._notes = notes
        self._sessions: set[Session] = set()

    def add(self, session: Session) -> None:
        """Note a client that came."""
        self._sessions.add(session)

    def remove(self, session: Session) -> None:
        """Forget a client that went."""
        self._sessions.discard(session)

    async def tell(self, now_s: float) -> None:
        """Leave word for the other replicas."""
        with contextlib.suppress(ActorUnavailable):
            await self._notes.note(self._process, orjson.dumps(self._own(now_s)))

    async def clients(self, now_s: float) -> list[dict[str, Any]]:
        """Return what is said of each client, the longest connected first."""
        found = [client for part in await self._all(now_s) for client in part["clients"]]
        return sorted(found, key=lambda client: (client["connected_at"], client["client_id"]))

    async def status(self, now_s: float) -> dict[str, Any]:
        """Return what is said of all sockets, summed over replicas, and of the prices."""
        parts = await self._all(now_s)
        own = parts[0]["manager"]
        is_fed = bool(self._table.position.epoch) and not self._table.going_away
        return {
            "timestamp": own["timestamp"],
            "websocket_manager": own | _summed([part["manager"] for part in parts]),
            "price_streamer": self._table.streamer_stats(now_s),
            "system_health": "healthy" if is_fed else "unhealthy",
            "replicas": len(parts),
        }

    def _own(self, now_s: float) -> dict[str, Any]:
        clients = [session.stats(now_s) for session in self._sessions]
        subscribed = list(self._table.subscribed)
        manager = self._table.stats(now_s) | {"subscribed": subscribed}
        return {"manager": manager, "clients": clients[:_MOST_TOLD]}

    async def _all(self, now_s: float) -> list[dict[str, Any]]:
        """Return this replica's part and those of the others, which are some seconds old."""
        others: dict[str, bytes] = {}
        with contextlib.suppress(ActorUnavailable):
            others = await self._notes.notes()
        others.pop(self._process, None)
        own = self._own(now_s)
        own["clients"] = [session.stats(now_s) for session in self._sessions]
        return [own, *(orjson.loads(text) for text in others.values())]


def _summed(managers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    summed: dict[str, Any] = {name: sum(m[name] for m in managers) for name in _SUMMED}
    symbols = set[str]().union(*(m.pop("subscribed") for m in managers))
    kinds = managers[0]["subscription_stats"]
    return summed | {
        "subscribed_symbols": len(symbols),
        "subscription_stats": {
            kind: sum(m["subscription_stats"][kind] for m in managers) for kind in kinds
        },
    }
