"""Every method that actors offer is classified: it may run twice for one call, or never does."""

from __future__ import annotations

import contextlib
import inspect
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
from actors.monitor.alert_desk import AlertDesk
from actors.monitor.client import ONCE, MonitorClient
from actors.monitor.performance_desk import PerformanceDesk
from actors.monitor.rule_desk import RuleDesk
from actors.monitor.trial_desk import TrialDesk
from actors.monitor.tuning_desk import TuningDesk
from actors.runtime import ActorClient, ServiceActor
from infra.errors import ActorUnavailable
from pipelines.queue.actor import TaskQueueActor
from pipelines.queue.client import TaskClient
from pipelines.scheduler.actor import SchedulerActor
from pipelines.scheduler.client import SchedulerClient

# Twice does what once does: they read, put what is there in place of what was, or know the id of
# what comes again.
REPEATABLE: dict[type, str] = {
    AlertActor: "add_rule change_rule check enable_rule",
    CacheActor: (
        "cache_settings clear delete direct fetch give memory memory_book metrics metrics_text "
        "note notes obeyed processes release report_metrics"
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
    MonitorActor: "ask",
    SchedulerActor: "jobs pause reset_store_reports resume store_reports store_state",
    TaskQueueActor: "cancel drain expire live note results set_running stats submit task",
}
ONLY_ONCE: dict[type, str] = {
    AlertActor: "remove_rule",
    CacheActor: "order",
    SchedulerActor: "run_now",
    TaskQueueActor: "requeue",
}
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
DESKS: dict[str, tuple[type, str]] = {
    "performance": (PerformanceDesk, "current dashboard health history report windowed"),
    "alerts": (
        AlertDesk,
        "acknowledge active add_webhook config enable_rule history put_rule rules set_email "
        "statistics watch",
    ),
    "rules": (
        RuleDesk,
        "baseline disable disable_all enable enable_all history recommendations rule set_baseline "
        "status watch",
    ),
    "trials": (TrialDesk, "active_at all analysis assigned one statistics"),
    "tuning": (TuningDesk, "history reset status switch"),
}
INNER = {"keep", "load", "look", "say", "take"}  # of desks: called in the actor itself


def exposed_of(actor: type) -> dict[str, Any]:
    """Return the methods that take a request id first: those that are exposed."""
    found = {}
    for name, method in vars(actor).items():
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            if list(inspect.signature(method).parameters)[:2] == ["self", "request_id"]:
                found[name] = method
    return found


def is_once(method: Any) -> bool:
    return getattr(method, "once", False)


@pytest.mark.parametrize("actor", list(CLIENTS))
def test_each_exposed_method_says_whether_it_may_run_twice(actor: type) -> None:
    assert issubclass(actor, ServiceActor)
    methods = exposed_of(actor)
    may, never = (set(of.get(actor, "").split()) for of in (REPEATABLE, ONLY_ONCE))
    assert may | never == set(methods), "classify it here, and mark it `once` where it is not safe"
    assert not may & never
    assert {name for name, method in methods.items() if is_once(method)} == never


def test_all_actors_are_here() -> None:
    def below(kind: type[ServiceActor]) -> Iterator[type[ServiceActor]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    ours = {one for one in below(ServiceActor) if not one.__module__.startswith("tests")}
    assert ours == set(CLIENTS) == set(REPEATABLE)


@pytest.mark.parametrize("name", list(DESKS))
def test_desks_of_the_monitor_and_their_client_agree(name: str) -> None:
    desk, repeatable = DESKS[name]
    methods = {
        method: one
        for method, one in inspect.getmembers(desk, inspect.iscoroutinefunction)
        if not method.startswith("_")
    }
    never = ONCE.get(name, frozenset())
    assert never <= set(methods)
    assert set(repeatable.split()) | never == set(methods) - (INNER - never)
    assert {method for method, one in methods.items() if is_once(one)} == never


class Recorded:
    """A client's ways of asking, noted instead of taken."""

    def __init__(self, client: ActorClient) -> None:
        self.asked: dict[str, str] = {}
        for way in ("_ask", "_ask_once", "_ask_now"):
            setattr(client, way, self._noted(way))

    def _noted(self, way: str) -> Any:
        async def ask(method: str, *args: Any, wait_s: float | None = None) -> Any:
            self.asked[method] = way
            raise LookupError

        return ask


@pytest.mark.parametrize("actor", list(CLIENTS))
async def test_clients_ask_once_for_what_must_not_run_twice(actor: type) -> None:
    client = CLIENTS[actor]()
    recorded = Recorded(client)
    for name, method in inspect.getmembers(client, inspect.iscoroutinefunction):
        if name.startswith("_") or name in ("ping", "ping_once", "submit_together"):
            continue
        needed = [p for p in inspect.signature(method).parameters.values()
                  if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]  # fmt: skip
        with contextlib.suppress(LookupError):
            await method(*(_Anything() for _ in needed))
    never = ONLY_ONCE.get(actor, "").split()
    assert set(recorded.asked) <= set(exposed_of(actor))
    for name, way in recorded.asked.items():
        assert (way == "_ask_once") == (name in never), f"{name} is asked with {way}"
    assert set(never) <= set(recorded.asked)


async def test_the_monitor_is_asked_once_for_what_its_desks_do_once() -> None:
    client = MonitorClient()
    asked: list[tuple[str, str]] = []

    def noting(way: str) -> Any:
        async def ask(_: str, desk: str, method: str, *rest: Any) -> None:
            asked.append((way, f"{desk}.{method}"))

        return ask

    client._ask, client._ask_once = noting("any"), noting("once")  # type: ignore[method-assign]
    for desk, (_, repeatable) in DESKS.items():
        remote = client._desk(desk)
        for method in (*repeatable.split(), *ONCE.get(desk, ())):
            await getattr(remote, method)()
    once = {f"{desk}.{method}" for desk, methods in ONCE.items() for method in methods}
    assert {name for way, name in asked if way == "once"} == once


class _Anything(float):
    """Stands for any argument that a client packs or reads."""

    epoch, offset = "e", 1

    def __new__(cls) -> _Anything:
        return super().__new__(cls, 1.0)

    def __iter__(self) -> Iterator[Any]:
        return iter(())


# -- an actor that ends meanwhile -----------------------------------------------------------


class _Handle:
    """An actor's handle. `fails` are the errors of the next calls, which ran all the same."""

    def __init__(self, **fails: list[BaseException]) -> None:
        self.ran: list[str] = []
        self._fails = fails

    def __getattr__(self, method: str) -> Any:
        class Method:
            @staticmethod
            async def remote(*_: Any) -> int:
                self.ran.append(method)
                if errors := self._fails.get(method):
                    raise errors.pop(0)
                return 7

        return Method


class _Client(ActorClient):
    actor_name = "finstage-none"

    def __init__(self, handle: _Handle) -> None:
        super().__init__(wait_s=5.0)
        self._given = handle
        self._handle = handle

    async def _found(self) -> bool:
        self._handle = self._given
        return True


def away() -> BaseException:
    error: BaseException = ActorUnavailableError("it restarts", None)
    return error


@pytest.mark.parametrize("error", [away, ActorDiedError])
async def test_what_must_not_run_twice_is_not_sent_again(error: Any) -> None:
    handle = _Handle(take=[error()])
    with pytest.raises(ActorUnavailable):
        await _Client(handle)._ask_once("take", {})
    assert handle.ran == ["ping", "take"]
    again = _Handle(read=[error(), error()])
    assert await _Client(again)._ask("read") == 7
    assert again.ran == ["read"] * 3


async def test_an_actor_that_restarts_is_waited_for_before_it_is_asked() -> None:
    handle = _Handle(ping=[away(), away(), away()])
    assert await _Client(handle)._ask_once("take", {}) == 7
    assert handle.ran == ["ping"] * 4 + ["take"]


async def test_an_actor_that_stays_away_was_never_asked() -> None:
    handle = _Handle(ping=[away() for _ in range(100)])
    with pytest.raises(ActorUnavailable):
        await _Client(handle)._ask_once("take", {}, wait_s=0.2)
    assert set(handle.ran) == {"ping"}
