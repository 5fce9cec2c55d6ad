"""The last messages of the hub, by topic, for clients that come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from infra.messages import Message

_ENTRY_BYTES = 300  # beside its payload


class Backlog:
    """The last messages, with their offsets. Bounded in bytes; the oldest go first.

    Ends of topics, and what cannot be read, are not added: their offsets are missing in between.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.bytes = 0
        self._limit_bytes = limit_bytes
        self._order: deque[tuple[int, str, int]] = deque()  # offset, topic, bytes
        self._by_topic: dict[str, deque[tuple[int, Message]]] = {}
        self._newest = 0

    def start_at(self, offset: int) -> None:
        """Forget everything; the next message has the offset after this one."""
        self.bytes = 0
        self._order.clear()
        self._by_topic.clear()
        self._newest = offset

    def add(self, offset: int, message: Message) -> None:
        """Add the next message."""
        size = len(message.payload) + _ENTRY_BYTES
        self._order.append((offset, message.topic, size))
        self._by_topic.setdefault(message.topic, deque()).append((offset, message))
        self._newest = offset
        self.bytes += size
        while self.bytes > self._limit_bytes:
            _, topic, size = self._order.popleft()
            self.bytes -= size
            messages = self._by_topic[topic]
            messages.popleft()
            if not messages:
                del self._by_topic[topic]

    def reaches(self, offset: int) -> bool:
        """Return whether all that was added after an offset is here."""
        oldest = self._order[0][0] if self._order else self._newest + 1
        return oldest <= offset + 1

    @property
    def topics(self) -> Iterable[str]:
        """Return the topics that have a message here."""
        return self._by_topic.keys()

    def after(self, offset: int, topics: Iterable[str]) -> list[tuple[int, Message]]:
        """Return the messages of topics past an offset, in order."""
        found: list[tuple[int, Message]] = []
        for topic in topics:
            for pair in reversed(self._by_topic.get(topic, ())):
                if pair[0] <= offset:
                    break
                found.append(pair)
        return sorted(found, key=lambda pair: pair[0])

    def last(self, topic: str, count: int) -> list[tuple[int, Message]]:
        """Return the last messages of a topic, oldest first."""
        messages = self._by_topic.get(topic, deque())
        return list(messages)[-count:]
