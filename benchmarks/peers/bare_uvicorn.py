"""One uvicorn, one FastAPI route, bytes of a given length: no Ray, no cache, no checks."""

from __future__ import annotations

import sys
import threading

import uvicorn
from fastapi import FastAPI

from benchmarks.peers.route import add_route


def main(port: int, length: int) -> None:
    """Serve until stdin ends."""
    app = FastAPI()
    add_route(app, length)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools",
        access_log=False, log_level="warning",
    )  # fmt: skip
    server = uvicorn.Server(config)

    def stop_at_end() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=stop_at_end, daemon=True).start()
    print("READY", flush=True)
    server.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
