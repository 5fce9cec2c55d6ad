"""The feed's work in a plain asyncio script: `plain_feed SYMBOLS TICKS_PER_S SECONDS`.

Takes the simulated market's ticks, writes each as the object that sockets get, builds the bars of
a minute, and keeps the last of each symbol: all that the FeedActor does but for Ray.
"""

from __future__ import annotations

import asyncio
import sys
import time

import orjson

from actors.feed.core import FeedCore
from actors.feed.minutes import MinuteBars
from infra.clock import SystemClock
from infra.sources.base import Tick, Wanted
from infra.sources.simulated.source import SimulatedSource


async def main(symbols: int, ticks_per_s: float, seconds: float) -> None:
    """Print READY, work, and print what was done as JSON."""
    source = SimulatedSource(SystemClock(), time.time(), symbols, ticks_per_s)
    core, minutes = FeedCore(source.name), MinuteBars(source.name)
    stream = source.stream(Wanted(source.symbols()))
    await anext(stream)
    print("READY", flush=True)
    last: dict[str, bytes] = {}
    ticks = 0
    started_s, cpu_s = time.monotonic(), time.process_time()
    while time.monotonic() - started_s < seconds:
        events = await anext(stream)
        messages = core.messages(events)
        messages += minutes.take(e.quote for e in events if isinstance(e, Tick))
        for message in messages:
            last[message.topic] = message.payload
        ticks += len(events)
    took = {"ticks": ticks, "cpu_s": time.process_time() - cpu_s}
    print(orjson.dumps(took | {"seconds": time.monotonic() - started_s}).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
