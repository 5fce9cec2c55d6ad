"""What clients of the stream got, and whether anything is missing there that nobody told of.

Several clients take the same sequence. What any of them saw between the first and the last
message of another one's stretch, and of that one's symbols, that one must have seen too. A stretch
ends where the client is told of a gap, by a snapshot in its place, which `StreamClient` counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

_KIND = "price_update"

Sequence = dict[str, dict[int, str]]  # of each epoch the symbol of each offset


@dataclass(slots=True)
class Stretch:
    """Messages of one epoch without a told gap: those of the snapshot, then those that came."""

    epoch: str
    told: dict[str, int] = field(default_factory=dict)  # by symbol, as a snapshot has each once
    is_live: bool = False
    offsets: list[int] = field(default_factory=list)

    def take(self, symbol: str, offset: int) -> None:
        """Add a message; the first ones may be the snapshot, until a symbol comes again."""
        if not self.is_live and symbol not in self.told:
            self.told[symbol] = offset
            return
        self.is_live = True
        self.offsets.append(offset)


@dataclass(slots=True)
class StreamLog:
    """One client: what it asked for, and its stretches. `untold`: epochs that began unsaid."""

    symbols: frozenset[str]
    is_whole: bool  # mode `all`; else only the newest price of a symbol is owed
    stretches: list[Stretch] = field(default_factory=list)
    untold: int = 0
    count: int = 0
    _resyncs: int = 0

    def take(self, message: dict[str, Any], resyncs: int) -> None:
        """Add what the client yielded when it had been told of so many gaps."""
        if message.get("type") != _KIND:
            return
        self.count += 1
        epoch = message["epoch"]
        last = self.stretches[-1] if self.stretches else None
        if last is None or resyncs != self._resyncs:
            self.stretches.append(Stretch(epoch))
        elif last.epoch != epoch:
            self.untold += 1
            self.stretches.append(Stretch(epoch))
        self._resyncs = resyncs
        self.stretches[-1].take(message["symbol"], message["offset"])


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of all clients together: messages missed and doubled without a word, and out of order."""

    messages: int
    stretches: int
    missed: int
    doubled: int
    out_of_order: int
    untold_epochs: int
    examples: tuple[str, ...]


def sequence_of(messages: Iterable[dict[str, Any]], into: Sequence) -> None:
    """Add prices to what is known of the sequence."""
    for message in messages:
        if message.get("type") == _KIND:
            into.setdefault(message["epoch"], {})[message["offset"]] = message["symbol"]


def judged(logs: Iterable[StreamLog], sequence: Sequence) -> Verdict:
    """Compare each client with what all of them saw."""
    messages = stretches = missed = doubled = disorder = untold = 0
    examples: list[str] = []
    for number, log in enumerate(logs):
        messages, untold = messages + log.count, untold + log.untold
        stretches += len(log.stretches)
        for stretch in log.stretches if log.is_whole else ():
            seen = set(stretch.offsets)
            doubled += len(stretch.offsets) - len(seen)
            disorder += sum(b < a for a, b in pairwise(stretch.offsets))
            if not seen:
                continue
            first, last = min(seen), max(seen)
            owed = {
                offset
                for offset, symbol in sequence.get(stretch.epoch, {}).items()
                if first < offset < last and symbol in log.symbols
            }
            gone = sorted(owed - seen)
            missed += len(gone)
            if gone:
                examples.append(f"client {number}: {stretch.epoch[:8]}:{gone[0]} to {gone[-1]}")
    return Verdict(messages, stretches, missed, doubled, disorder, untold, tuple(examples[:10]))
