"""Calls of an actor that does nothing, on the Ray of a running Finstage.

Each line of stdin is a number of calls; their times go to stdout as a JSON list, in milliseconds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import orjson

from pipelines.driver.joining import join

_WARM_UP = 200


def main(data_dir: str) -> None:
    """Join the Ray of the service on `data_dir`, and time calls until stdin ends."""
    join(None, None, data_dir)
    import ray
    import uvloop

    class Bare:
        async def call(self, request_id: str) -> str:
            return request_id

    handle = ray.remote(Bare).options(num_cpus=0).remote()
    uvloop.run(_answer(handle))
    ray.kill(handle)
    ray.shutdown()


async def _answer(handle: Any) -> None:
    await _times(handle, _WARM_UP)
    print("READY", flush=True)
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        print(orjson.dumps(await _times(handle, int(line))).decode(), flush=True)


async def _times(handle: Any, count: int) -> list[float]:
    times = []
    for _ in range(count):
        started_s = time.perf_counter()
        await handle.call.remote("0123456789abcdef")
        times.append((time.perf_counter() - started_s) * 1e3)
    return times


if __name__ == "__main__":
    main(sys.argv[1])
