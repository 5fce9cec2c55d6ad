"""The same route behind Serve's own Python proxy: Serve as it comes, access log off."""

from __future__ import annotations

import sys

import ray
from fastapi import FastAPI
from ray import serve as ray_serve

from benchmarks.peers.route import add_route


def main(port: int, length: int) -> None:
    """Serve until stdin ends."""
    app = FastAPI()
    add_route(app, length)

    @ray_serve.deployment(
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=1_000,
        logging_config={"enable_access_log": False},
    )
    @ray_serve.ingress(app)
    class Api:
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
    ray_serve.run(Api.bind(), route_prefix="/")  # type: ignore[attr-defined]
    print("READY", flush=True)
    sys.stdin.buffer.read()
    ray_serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
