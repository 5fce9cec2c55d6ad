"""Figures of all sockets, whichever replica is asked."""

from __future__ import annotations

from infra.messages import PRICES, Message, Position, Snapshot
from serve.ws.protocol import Session, Terms
from serve.ws.roster import Roster
from serve.ws.sockets import SocketTable
from tests.unit.test_sockets import subscribe


class Board:
    """Where replicas leave word."""

    def __init__(self) -> None:
        self.left: dict[str, bytes] = {}

    async def note(self, process: str, text: bytes) -> None:
        self.left[process] = text

    async def notes(self) -> dict[str, bytes]:
        return dict(self.left)


def replica(name: str, board: Board, *symbols: str) -> Roster:
    table = SocketTable()
    told = Message(PRICES + "AAPL", b'{"timestamp":"x","current_price":1}')
    table.on_snapshot(Snapshot(Position("e", 1), ((1, told),)))
    table.meet(symbols)
    roster = Roster(table, name, board)
    for number, symbol in enumerate(symbols):
        session = Session(f"{name}-{number}", table, table.open(), Terms("replay", 9), number)
        roster.add(session)
        subscribe(session, symbol)
    return roster


async def test_figures_are_summed_over_replicas() -> None:
    board = Board()
    one, two = replica("one", board, "AAPL"), replica("two", board, "AAPL", "IBM")
    for roster in (one, two):
        await roster.tell(5.0)

    status = await one.status(6.0)

    manager = status["websocket_manager"]
    assert (manager["active_connections"], manager["subscribed_symbols"]) == (3, 2)
    assert manager["subscription_stats"]["prices"] == 3
    assert (status["system_health"], status["replicas"]) == ("healthy", 2)
    found = [client["client_id"] for client in await two.clients(6.0)]
    assert found == ["one-0", "two-0", "two-1"]
    assert "subscribed" not in manager


async def test_an_unfed_replica_says_so() -> None:
    roster = Roster(SocketTable(), "one", Board())

    assert (await roster.status(1.0))["system_health"] == "unhealthy"
