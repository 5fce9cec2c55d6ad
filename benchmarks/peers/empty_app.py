"""The empty application for `serve run`."""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve as ray_serve

api = FastAPI()


@api.get("/ready")
async def ready() -> dict[str, bool]:
    """Say that it runs."""
    return {"ready": True}


@ray_serve.deployment(ray_actor_options={"num_cpus": 0})
@ray_serve.ingress(api)
class Empty:
    """Nothing."""


app = Empty.bind()  # type: ignore[attr-defined]
