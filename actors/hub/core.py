"""One ordered sequence of messages, bounded in bytes and seconds, and the last of each topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infra.errors import EpochChanged, OffsetGone
from infra.messages import DATA, ENDED, Batch, Message, Position, Snapshot

_ENTRY_BYTES = 220  # beside its payload: 219 by tracemalloc, topic and links

_NOTHING = (0.0, Message("", b""))


class HubCore:
    """Append messages, read them back by position.

    State: soft; a new one has a new epoch, and offsets start at 1 again. `now_s` is any clock
    that does not go back.
    """

    def __init__(
        self, epoch: str, history_bytes: int, history_s: float, now_s: Callable[[], float]
    ) -> None:
        self.epoch = epoch
        self.history_bytes = 0
        self._limit_bytes = history_bytes
        self._limit_s = history_s
        self._now_s = now_s
        # A list, of which the first `_gone` are trimmed: readers ask for slices near its end,
        # and a deque would walk there from its beginning.
        self._log: list[tuple[float, Message]] = []
        self._gone = 0
        self._last: dict[str, tuple[int, Message]] = {}
        self._offset = 0
        self._changed: dict[str, int] = {}  # the newest last
        self.changed_offset = 0  # of the last message of new data

    @property
    def position(self) -> Position:
        """Return the place of the newest message; offset 0 where there was none."""
        return Position(self.epoch, self._offset)

    @property
    def topics(self) -> int:
        """Return how many topics there are."""
        return len(self._last)

    def start_over(self, epoch: str) -> None:
        """Forget everything and begin a new epoch: what follows has nothing to do with before."""
        self.epoch = epoch
        self.history_bytes = 0
        self._log.clear()
        self._gone = 0
        self._last.clear()
        self._offset = 0
        self._changed.clear()
        self.changed_offset = 0

    def publish(self, messages: Sequence[Message]) -> Position:
        """Append messages in order; return the position of the last."""
        now_s = self._now_s()
        for message in messages:
            self._offset += 1
            self._log.append((now_s, message))
            if message.topic.startswith(DATA):
                self._note_change(message.topic.removeprefix(DATA))
            if message.payload == ENDED:
                self._last.pop(message.topic, None)
            else:
                self._last[message.topic] = (self._offset, message)
            self.history_bytes += len(message.payload) + _ENTRY_BYTES
        self._trim(now_s)
        return self.position

    def _note_change(self, symbol: str) -> None:
        self._changed.pop(symbol, None)
        self._changed[symbol] = self.changed_offset = self._offset

    def changed_after(self, position: Position) -> dict[str, int]:
        """Return the symbols with new data past `position`, each with the offset of the last.

        Of another epoch: all symbols that had any in this one.
        """
        if position.epoch != self.epoch or position.offset > self._offset:
            return dict(self._changed)
        found: dict[str, int] = {}
        for symbol, offset in reversed(self._changed.items()):
            if offset <= position.offset:
                break
            found[symbol] = offset
        return found

    def after(self, position: Position, most: int = 5_000) -> Batch:
        """Return up to `most` messages past `position`, oldest first; maybe none.

        Raises EpochChanged if the hub restarted since, OffsetGone if the next message has left
        the history: then a snapshot is the way on, never a part.
        """
        if position.epoch != self.epoch or position.offset > self._offset:
            raise EpochChanged(position.epoch, self.epoch)
        start = len(self._log) - (self._offset - position.offset)
        if start < self._gone:
            raise OffsetGone(position.offset, self._offset - len(self._log) + self._gone + 1)
        chosen = tuple(m for _, m in self._log[start : start + most])
        return Batch(Position(self.epoch, position.offset + len(chosen)), chosen)

    def snapshot(self, history_bytes: int = 0) -> Snapshot:
        """Return the last message of every topic, as of now, and so much of the history."""
        history: list[Message] = []
        for _, message in reversed(self._log[self._gone :]):
            history_bytes -= len(message.payload) + _ENTRY_BYTES
            if history_bytes < 0:
                break
            history.append(message)
        return Snapshot(self.position, tuple(self._last.values()), tuple(reversed(history)))

    @property
    def history(self) -> int:
        """Return how many messages the history has."""
        return len(self._log) - self._gone

    def shorten(self, max_bytes: int) -> int:
        """Forget the oldest messages until the history has so many bytes; return what went.

        Who has not read them gets a snapshot in their place.
        """
        before = self.history_bytes
        self._trim(self._now_s(), max_bytes)
        return before - self.history_bytes

    def _trim(self, now_s: float, limit_bytes: int | None = None) -> None:
        oldest_s = now_s - self._limit_s
        limit_bytes = self._limit_bytes if limit_bytes is None else limit_bytes
        log, gone = self._log, self._gone
        while gone < len(log) and (self.history_bytes > limit_bytes or log[gone][0] < oldest_s):
            self.history_bytes -= len(log[gone][1].payload) + _ENTRY_BYTES
            log[gone] = _NOTHING
            gone += 1
        if gone > len(log) // 2:  # so that each message is moved once, on the average
            del log[:gone]
            gone = 0
        self._gone = gone
