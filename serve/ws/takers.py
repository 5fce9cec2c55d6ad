"""Who takes which topic, by its own name or with others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from infra.messages import ALERTS
from serve.ws.outbox import Outbox, Taking

EVERYTHING = "*"
CATEGORY = "category:"

# Sockets that take something in the same way, so that its frame is looked up once for all.
Group = tuple[Taking, Iterable[Outbox]]


class Takers:
    """Subscriptions by name: `prices:AAPL`, `prices:*`, `prices:category:stock`. State: soft.

    A name covers the topics of its kind and symbol; of alerts, `alerts:AAPL` covers every type.
    Where a client holds several names that cover a topic, the most particular one counts.
    """

    def __init__(self, category_of: Callable[[str], str | None]) -> None:
        self._category_of = category_of
        self._groups: dict[str, dict[Taking, dict[Outbox, None]]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def add(self, outbox: Outbox, names: Mapping[str, Taking]) -> None:
        """Let a client take these, in the new way where it did already."""
        for name, taking in names.items():
            if outbox.topics.get(name, taking) != taking:
                self.remove(outbox, name)
            outbox.topics[name] = taking
            self._groups.setdefault(name, {}).setdefault(taking, {})[outbox] = None

    def remove(self, outbox: Outbox, name: str) -> None:
        """Let a client no longer take this; one that it does not take is no error."""
        taking = outbox.topics.pop(name, None)
        if taking is None:
            return
        groups = self._groups[name]
        del groups[taking][outbox]
        if not groups[taking]:
            del groups[taking]
        if not groups:
            del self._groups[name]

    def of(self, topic: str) -> list[Group]:
        """Return who takes a topic, each client once."""
        found: list[Group] = []
        before: list[str] = []
        for name in self.names_of(topic):
            groups = self._groups.get(name)
            if groups is None:
                continue
            for taking, outboxes in groups.items():
                found.append((taking, _without(outboxes, before) if before else outboxes))
            before.append(name)
        return found

    def names_of(self, topic: str) -> tuple[str, ...]:
        """Return the names that cover a topic, the most particular one first."""
        kind, _, rest = topic.partition(":")
        symbol = rest.partition(":")[0]
        own = f"{ALERTS}{symbol}" if topic.startswith(ALERTS) else topic
        category = self._category_of(symbol)
        if category is None:
            return own, f"{kind}:{EVERYTHING}"
        return own, f"{kind}:{EVERYTHING}", f"{kind}:{CATEGORY}{category}"

    def covers(self, name: str, topic: str) -> bool:
        """Return whether who takes `name` takes `topic`."""
        return name == topic or name in self.names_of(topic)


def _without(outboxes: Iterable[Outbox], names: Iterable[str]) -> list[Outbox]:
    """Return the clients that hold none of these names."""
    return [outbox for outbox in outboxes if outbox.topics.keys().isdisjoint(names)]
