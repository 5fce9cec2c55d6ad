"""The only wiring: which actors there are, and the two applications in front of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from ray import serve as ray_serve
from ray.serve.api import RunTarget
from ray.serve.schema import ApplicationStatus

from actors.alerts.actor import AlertActor
from actors.alerts.client import ALERT_ENGINE
from actors.cache.actor import CacheActor
from actors.feed.actor import FeedActor
from actors.feed.client import FEED
from actors.hub.actor import HubActor
from actors.hub.client import HUB
from actors.indicators.actor import IndicatorActor
from actors.indicators.client import INDICATORS
from actors.monitor.actor import MonitorActor
from actors.monitor.client import MONITOR
from actors.runtime import ActorSpec
from actors.telemetry.client import CACHE
from infra.errors import StartFailed
from infra.settings import Settings
from pipelines.queue.actor import TaskQueueActor
from pipelines.scheduler.actor import SchedulerActor
from pipelines.scheduler.client import SCHEDULER
from pipelines.submission import TASK_QUEUE
from serve.replicas.api import Api
from serve.replicas.stream import Stream

API_APP = "finstage-api"
STREAM_APP = "finstage-stream"

_LOOK_EVERY_S = 0.1


def first_actors(settings: Settings, started_at_s: float) -> list[ActorSpec]:
    """Return those without which no price and no indicator is answered, in the order to start."""
    return [
        ActorSpec(CACHE, CacheActor, (settings,)),
        ActorSpec(HUB, HubActor, (settings,)),
        ActorSpec(FEED, FeedActor, (settings, started_at_s)),
        ActorSpec(INDICATORS, IndicatorActor, (settings,)),
    ]


def later_actors(settings: Settings) -> list[ActorSpec]:
    """Return those that can start once prices and indicators are answered."""
    return [
        ActorSpec(SCHEDULER, SchedulerActor, (settings,)),
        ActorSpec(TASK_QUEUE, TaskQueueActor, (settings,)),
        ActorSpec(ALERT_ENGINE, AlertActor, (settings,)),
        ActorSpec(MONITOR, MonitorActor, (settings,)),
    ]


def actor_specs(settings: Settings, started_at_s: float) -> list[ActorSpec]:
    """Return all actors in the order to start them; `started_at_s` is Unix time."""
    return first_actors(settings, started_at_s) + later_actors(settings)


def applications(settings: Settings) -> list[RunTarget]:
    """Return the two Serve applications: one ingress each, so that REST never delays a frame."""
    common = {
        "ray_actor_options": {"num_cpus": 0},
        "max_ongoing_requests": 100_000,  # an open socket holds one; our own caps are lower
        "max_queued_requests": -1,
        "max_surge_percent": 100,  # new replicas first: else the old ones go before they come
        "graceful_shutdown_timeout_s": 2.0,
        "graceful_shutdown_wait_loop_s": 0.2,
        "logging_config": {"enable_access_log": False},
    }
    api = ray_serve.deployment(ray_serve.ingress()(Api)).options(
        name="Api", num_replicas=settings.api_replicas, **common
    )
    stream = ray_serve.deployment(ray_serve.ingress()(Stream)).options(
        name="Stream", num_replicas=settings.stream_replicas, **common
    )
    return [
        RunTarget(api.bind(settings), name=API_APP, route_prefix="/"),
        RunTarget(stream.bind(settings), name=STREAM_APP, route_prefix="/ws"),
    ]


def run_applications(settings: Settings) -> None:
    """Deploy both applications, and wait for none of them."""
    ray_serve.run_many(
        applications(settings),
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def await_applications(check: Callable[[], None]) -> None:
    """Wait until both applications run; `check` may raise in between.

    Raises StartFailed for one that Serve has given up.
    """
    waiting = {API_APP, STREAM_APP}
    while waiting:
        check()
        for name, found in ray_serve.status().applications.items():
            if found.status == ApplicationStatus.RUNNING:
                waiting.discard(name)
            elif found.status == ApplicationStatus.DEPLOY_FAILED and name in waiting:
                raise StartFailed(f"the application {name} does not start: {found.message}")
        time.sleep(_LOOK_EVERY_S)
