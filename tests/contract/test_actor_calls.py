"""Every method that actors offer is classified: it may run twice for one call, or never does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from actors.alerts.actor import AlertActor
from actors.alerts.client import AlertClient
from actors.cache.actor import CacheActor
from actors.cache.client import CacheClient
from actors.feed.actor import FeedActor
from actors.feed.client import FeedClient
from actors.hub.actor import HubActor
from actors.hub.client import HubClient
from actors.indicators.actor import IndicatorActor
from actors.indicators.client import IndicatorClient
from actors.monitor.actor import MonitorActor
from actors.monitor.alert_service import AlertService
from actors.monitor.client import MonitorClient
from actors.monitor.experiment_service import ExperimentService
from actors.monitor.performance_service import PerformanceService
from actors.monitor.rule_service import RuleService
from actors.monitor.tuning_service import TuningService
from actors.runtime import ActorClient, Call, InProcess, ServiceActor, calls_of, exposed
from actors.telemetry.telemetry import Telemetry
from infra.context import bound_request_id, current_request_id
from infra.errors import ActorUnavailable, SymbolUnknown
from pipelines.queue.actor import TaskQueueActor
from pipelines.queue.client import TaskClient
from pipelines.scheduler.actor import SchedulerActor
from pipelines.scheduler.client import SchedulerClient

# Twice does what once does: they read, put what is there in place of what was, or know the id of
# what comes again.
REPEATABLE: dict[type, str] = {
    AlertActor: "add_rule change_rule check enable_rule",
    CacheActor: "cache_settings clear delete fetch give release",
    Telemetry: (
        "direct memory memory_book metrics metrics_text note notes obeyed processes report_metrics"
    ),
    FeedActor: (
        "actions fundamentals histories info listing look_for_imports monitor monitored news pin "
        "pinned quotes reset_store_report search sources store_report symbols trouble unmonitor "
        "unpin want"
    ),
    HubActor: "changes publish read snapshot start_over",
    IndicatorActor: (
        "catalogue compiling comprehensive correlation histories history indicators "
        "indicators_json live live_condition ranking references screen sentiment signals symbols "
        "table trend want_live"
    ),
    MonitorActor: "directives log_level set_log_level watch",
    PerformanceService: "current dashboard health history report windowed",
    AlertService: (
        "acknowledge active add_webhook config enable_rule history put_rule rules set_email "
        "statistics watch"
    ),
    RuleService: (
        "baseline disable disable_all enable enable_all history recommendations rule set_baseline "
        "status watch"
    ),
    ExperimentService: "active_at all analysis assigned one statistics",
    TuningService: "history reset status switch",
    SchedulerActor: "jobs pause reset_store_reports resume store_reports store_state",
    TaskQueueActor: "cancel drain expire live note results set_running stats submit task",
}
ONLY_ONCE: dict[type, str] = {
    AlertActor: "remove_rule",
    AlertService: "remove_rule remove_webhook",
    Telemetry: "order",
    RuleService: "add remove",
    SchedulerActor: "run_now",
    TaskQueueActor: "requeue",
    ExperimentService: "create move record remove take",
    TuningService: "take_asked",
}
PARTS = (
    AlertService,
    ExperimentService,
    PerformanceService,
    RuleService,
    Telemetry,
    TuningService,
)
CLIENTS: dict[type, type[ActorClient]] = {
    AlertActor: AlertClient,
    CacheActor: CacheClient,
    FeedActor: FeedClient,
    HubActor: HubClient,
    IndicatorActor: IndicatorClient,
    MonitorActor: MonitorClient,
    SchedulerActor: SchedulerClient,
    TaskQueueActor: TaskClient,
}


@pytest.mark.parametrize("owner", list(REPEATABLE))
def test_each_exposed_method_says_whether_it_may_run_twice(owner: type) -> None:
    calls = calls_of(owner)
    may, never = (set(of.get(owner, "").split()) for of in (REPEATABLE, ONLY_ONCE))
    assert may | never == set(calls), "classify it here, and mark it `once` where it is not safe"
    assert not may & never
    assert {name for name, call in calls.items() if call.once} == never


def test_all_actors_are_here() -> None:
    def below(kind: type[ServiceActor]) -> Iterator[type[ServiceActor]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    ours = {one for one in below(ServiceActor) if not one.__module__.startswith("tests")}
    assert ours == set(CLIENTS) == set(REPEATABLE) - set(PARTS)


# -- an actor that ends meanwhile -----------------------------------------------------------


class _Handle:
    """An actor's handle. `fails` are the errors of the next calls, which ran all the same."""

    def __init__(self, **fails: list[BaseException]) -> None:
        self.ran: list[str] = []
        self._fails = fails

    def __getattr__(self, method: str) -> Any:
        class Method:
            @staticmethod
            async def remote(*asked: Any) -> Any:
                name = asked[1] if method == "ask" else method
                self.ran.append(name)
                if errors := self._fails.get(name):
                    raise errors.pop(0)
                return (
                    {"take": Call(once=True), "piece.take": Call(once=True)}
                    if (method == "calls")
                    else 7
                )

        return Method


class _Client(ActorClient):
    actor_name = "finstage-none"
    take: Any
    read: Any
    order: Any
    piece: Any


def away() -> BaseException:
    error: BaseException = ActorUnavailableError("it restarts", None)
    return error


@pytest.mark.parametrize("error", [away, ActorDiedError])
async def test_what_must_not_run_twice_is_not_sent_again(error: Any) -> None:
    handle = _Handle(take=[error()])
    with pytest.raises(ActorUnavailable):
        await _Client(handle=handle).take({})
    assert handle.ran == ["calls", "ping", "take"]
    again = _Handle(read=[error(), error()])
    assert await _Client(handle=again).read() == 7
    assert again.ran == ["calls", *["read"] * 3]
    of_part = _Handle(**{"piece.take": [error()]})
    with pytest.raises(ActorUnavailable):
        await _Client(handle=of_part).piece.take({})
    assert of_part.ran == ["calls", "ping", "piece.take"]


async def test_an_actor_that_restarts_is_waited_for_before_it_is_asked() -> None:
    handle = _Handle(calls=[away(), away()], ping=[away(), away(), away()])
    assert await _Client(handle=handle).take({}) == 7
    assert handle.ran == ["calls"] * 3 + ["ping"] * 4 + ["take"]


async def test_an_actor_that_stays_away_was_never_asked() -> None:
    handle = _Handle(ping=[away() for _ in range(100)])
    with pytest.raises(ActorUnavailable):
        await _Client(0.2, handle).take({})
    assert set(handle.ran) == {"calls", "ping"}


# -- an actor in the same process -----------------------------------------------------------


class _Part:
    @exposed(once=True)
    async def take(self, count: int = 1) -> int:
        return count

    async def inner(self) -> None:
        raise AssertionError


class _Actor(ServiceActor):
    role = "none"

    def __init__(self) -> None:
        self._part = _Part()

    def parts(self) -> dict[str, Any]:
        return {"": self, "piece": self._part}

    @exposed(wait_s=9.0)
    async def read(self, fails: bool = False) -> str:
        if fails:
            raise SymbolUnknown("ZZZ")
        return current_request_id()


async def test_methods_and_their_defaults_stand_at_the_actor_alone() -> None:
    client = _Client(handle=InProcess(_Actor()))
    with bound_request_id("r-1"):
        assert await client.read() == "r-1"
    with pytest.raises(SymbolUnknown):
        await client.read(fails=True)
    assert await client.piece.take() == 1
    assert await client.piece.take(count=3) == 3
    assert await client.ping() == os.getpid()


@pytest.mark.parametrize("name", ["keep", "_method", "piece.inner", "nothing", "piece.__init__"])
async def test_only_what_is_exposed_can_be_asked_for(name: str) -> None:
    with pytest.raises(AssertionError, match="none has no"):
        await InProcess(_Actor()).ask.remote("", name, (), {})


class _Slow(_Actor):
    @exposed(once=True, wait_s=9.0)
    async def order(self) -> str:
        await asyncio.sleep(0.3)
        return "done"


async def test_a_method_that_takes_long_is_waited_for_also_where_it_runs_once() -> None:
    client = _Client(0.1, InProcess(_Slow()))

    assert await client.order() == "done"


async def test_a_first_call_waits_for_its_actor_as_long_as_its_client_says() -> None:
    class Patient(_Client):
        first_wait_s = 60.0

    handle = _Handle(calls=[away() for _ in range(6)])
    assert await Patient(0.05, handle).read() == 7
    assert handle.ran == ["calls"] * 7 + ["read"]
