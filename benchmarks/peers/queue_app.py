"""The usual fan-out on Serve: a queue and a sending task for each socket, behind HAProxy."""

from __future__ import annotations

import asyncio
import sys

import orjson
import ray
from ray import serve as ray_serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from benchmarks.crowd import stamped


def create_app(body: dict[str, object]) -> Starlette:
    """Return the application: `/realtime` for sockets, a POST of `/send` for a message to all."""
    queues: set[asyncio.Queue[str]] = set()

    async def realtime(socket: WebSocket) -> None:
        await socket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue()
        queues.add(queue)
        await socket.send_text('{"type":"system_status"}')

        async def send() -> None:
            while True:
                await socket.send_text(await queue.get())

        sending = asyncio.create_task(send())
        try:
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass
        finally:
            queues.discard(queue)
            sending.cancel()

    async def send(_: Request) -> Response:
        text = stamped(body).decode()
        for queue in queues:
            queue.put_nowait(text)
        return Response(b"{}")

    return Starlette(
        routes=[WebSocketRoute("/realtime", realtime), Route("/send", send, methods=["POST"])]
    )


def main(port: int, body: str) -> None:
    """Serve until stdin ends."""
    told = orjson.loads(body)

    @ray_serve.deployment(
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=100_000,
        graceful_shutdown_timeout_s=2.0,
        logging_config={"enable_access_log": False},
    )
    @ray_serve.ingress(lambda: create_app(told))
    class Queues:
        pass

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=256 * 2**20,
        log_to_driver=False,
    )
    ray_serve.start(
        http_options={"host": "127.0.0.1", "port": port},
        logging_config={"enable_access_log": False},
    )
    ray_serve.run(Queues.bind(), route_prefix="/")  # type: ignore[attr-defined]
    print("READY", flush=True)
    sys.stdin.buffer.read()
    ray_serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
