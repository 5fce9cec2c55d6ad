"""A rolling restart as it is watched: what is said, who is told to go, when it is over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from infra.clock import FakeClock
from infra.errors import ActorUnavailable, ConfigError
from infra.messages import ENDED, PRICES, SYSTEM, Batch, Message, Position, Snapshot
from serve.cli.rolling import (
    KINDS,
    Replica,
    RestartFailed,
    Rollout,
    Watched,
    failure,
    farewells,
    follow,
    replicas,
    restart_service,
    running_state,
    wanted,
)
from serve.state import State, own_created_s
from serve.ws.sockets import SocketTable
from tests.settings import made_settings

API_APP, STREAM_APP = KINDS
Shown = tuple[str, int, str]  # a replica's id, pid and state


def details(api: Sequence[Shown], stream: Sequence[Shown], status: str = "RUNNING") -> Any:
    """Return what Serve's controller says, as far as it is read."""

    def application(shown: Sequence[Shown]) -> dict[str, Any]:
        listed = [
            {"replica_id": name, "state": state} | ({"pid": pid} if pid else {})
            for name, pid, state in shown
        ]
        deployment = {"replicas": listed, "target_num_replicas": 1}
        return {"status": status, "message": "why", "deployments": {"Any": deployment}}

    other = {"status": "RUNNING", "message": "", "deployments": {}}
    return {
        "applications": {API_APP: application(api), STREAM_APP: application(stream), "x": other}
    }


OLD_API, OLD_STREAM = ("a1", 11, "RUNNING"), ("s1", 12, "RUNNING")
NEW_API, NEW_STREAM = ("a2", 21, "RUNNING"), ("s2", 22, "RUNNING")
BEFORE = details([OLD_API], [OLD_STREAM])
STARTING = details([OLD_API, ("a2", 0, "STARTING")], [OLD_STREAM, ("s2", 22, "STARTING")])
DRAINING = details([NEW_API], [NEW_STREAM, ("s1", 12, "STOPPING")])
AFTER = details([NEW_API], [NEW_STREAM])


class Fakes:
    """A controller that says one thing after the other, a hub, and a console."""

    def __init__(self, *shown: Any, hub_away: bool = False) -> None:
        self._shown: Iterator[Any] = iter(shown)
        self._hub_away = hub_away
        self.published: list[Message] = []
        self.said: list[str] = []
        self.clock = FakeClock()

    @property
    def watched(self) -> Watched:
        return Watched(self._look, self._publish, self.said.append, self.clock)

    async def _look(self) -> Any:
        return next(self._shown)

    async def _publish(self, messages: Sequence[Message]) -> None:
        if self._hub_away:
            raise ActorUnavailable("finstage-hub", 1.0)
        self.published.extend(messages)


async def followed(fakes: Fakes, within_s: float = 60.0) -> Rollout:
    """Follow a rollout from BEFORE on; time passes as fast as it is waited for."""
    rollout = Rollout(replicas(BEFORE))
    deadline_s = fakes.clock.monotonic_s() + within_s
    following = asyncio.create_task(follow(rollout, fakes.watched, deadline_s))
    while not following.done():
        await asyncio.sleep(0)
        fakes.clock.advance(0.1)
    await following
    return rollout


def test_the_applications_are_those_that_are_deployed() -> None:
    wiring = (Path(__file__).parents[2] / "serve" / "app.py").read_text()  # its import warns

    for name, kind in KINDS.items():
        assert f'{kind.upper()}_APP = "{name}"' in wiring


def test_replicas_of_other_applications_are_none_of_ours() -> None:
    shown = details([OLD_API], [])
    shown["applications"]["x"]["deployments"] = {"Y": {"replicas": [{}], "target_num_replicas": 9}}

    assert replicas(shown) == {"a1": Replica("api", "a1", 11, "RUNNING")}
    assert wanted(shown) == 2


async def test_a_restart_says_each_step_once_and_ends_when_the_old_are_gone() -> None:
    fakes = Fakes(BEFORE, STARTING, STARTING, DRAINING, DRAINING, AFTER)

    rollout = await followed(fakes)

    assert fakes.said == [
        "stream 22 starts",
        "api 21 starts",
        "api 21 runs",
        "stream 22 runs",
        "stream 12 takes nothing new and finishes what it has",
        "api 11 is gone",
        "stream 12 is gone",
    ]
    assert [str(one) for one in rollout.old] == ["api 11", "stream 12"]
    assert [str(one) for one in rollout.new] == ["api 21", "stream 22"]


async def test_sockets_of_the_old_stream_replica_alone_are_told_once_and_as_at_a_stop() -> None:
    fakes = Fakes(BEFORE, STARTING, DRAINING, DRAINING, AFTER)

    await followed(fakes)

    topics = [message.topic for message in fakes.published]
    assert topics == ["leaving:s1", "leaving:s1"]
    told, ended = fakes.published
    body = orjson.loads(told.payload)
    assert (body["type"], body["event"]) == ("system_status", "going_away")
    assert body["reconnect_after_ms"] == [1_000, 10_000]
    assert ended.payload == ENDED


async def test_sockets_are_told_when_the_look_at_the_drain_came_too_late() -> None:
    fakes = Fakes(STARTING, AFTER)

    await followed(fakes)

    assert [message.topic for message in fakes.published][:1] == ["leaving:s1"]


async def test_nobody_is_told_before_serve_begins_to_stop_a_replica() -> None:
    looks = 0

    class Looking(Fakes):
        async def _look(self) -> Any:
            nonlocal looks
            looks += 1
            assert self.published == []
            return await super()._look()

    with pytest.raises(AssertionError):
        await followed(Looking(BEFORE, STARTING, STARTING, DRAINING, AFTER))
    assert looks == 5


async def test_new_replicas_that_do_not_start_end_it_with_the_reason() -> None:
    fakes = Fakes(STARTING, details([OLD_API], [OLD_STREAM], "DEPLOY_FAILED"))

    with pytest.raises(RestartFailed, match="do not start: api: why"):
        await followed(fakes)

    assert not farewells([one for one in replicas(BEFORE).values() if one.kind == "api"])
    assert [message.payload for message in fakes.published] == [ENDED]


def test_only_the_replica_that_goes_tells_its_sockets() -> None:
    (message,) = farewells([Replica("stream", "s1", 12, "STOPPING")])
    told: dict[str, list[str]] = {}
    for name in ("s1", "s2", ""):
        table = SocketTable(replica_id=name)
        table.on_snapshot(Snapshot(Position("e1", 1), ((1, Message(PRICES + "A", b"{}")),)))
        outbox = table.open()
        table.on_batch(Batch(Position("e1", 2), (message,)))
        frames = [orjson.loads(frame.payload) for frame in outbox.take(lambda: 0.0)]
        told[name] = [f"{frame['event']} at {frame['offset']}" for frame in frames]
        assert table.going_away == (name == "s1")

    assert told == {"s1": ["going_away at 2"], "s2": [], "": []}


def test_who_comes_back_is_not_sent_away_once_more() -> None:
    (message,) = farewells([Replica("stream", "s1", 12, "STOPPING")])
    table = SocketTable(replica_id="s2")
    table.on_snapshot(Snapshot(Position("e1", 1), ((1, Message(PRICES + "A", b"{}")),)))
    table.on_batch(Batch(Position("e1", 3), (message, Message(SYSTEM, b'{"event":"x"}'))))
    outbox = table.open()

    table.recover(outbox, {}, Position("e1", 1))

    events = [orjson.loads(frame.payload)["event"] for frame in outbox.take(lambda: 0.0)]
    assert events == ["x"]


def test_an_application_that_is_not_there_is_a_failure() -> None:
    shown = details([OLD_API], [])
    del shown["applications"][STREAM_APP]

    assert failure(BEFORE) == ""
    assert failure(shown) == "stream: gone"


async def test_a_restart_gives_up_at_its_deadline() -> None:
    fakes = Fakes(*[STARTING] * 40)

    with pytest.raises(RestartFailed, match="not in time"):
        await followed(fakes, within_s=2.0)

    assert "stream 22 starts" in fakes.said


async def test_a_hub_that_is_away_is_said_and_ends_nothing() -> None:
    fakes = Fakes(STARTING, DRAINING, AFTER, hub_away=True)

    await followed(fakes)

    assert any("without a word (1012)" in line for line in fakes.said)
    assert fakes.said[-2] == "stream 12 is gone"


async def test_two_of_each_are_waited_for() -> None:
    shown = details([NEW_API], [NEW_STREAM])
    deployment = shown["applications"][API_APP]["deployments"]["Any"]
    deployment["target_num_replicas"] = 2
    whole = details([NEW_API, ("a3", 23, "RUNNING")], [NEW_STREAM])
    whole["applications"][API_APP]["deployments"]["Any"]["target_num_replicas"] = 2
    fakes = Fakes(STARTING, shown, shown, whole)

    rollout = await followed(fakes)

    assert [str(one) for one in rollout.new] == ["api 21", "api 23", "stream 22"]


# -- the command ---------------------------------------------------------------------------------


def running(folder: Path, port: int, ready: bool = True) -> None:
    """Leave word of a service that runs; this process stands for it."""
    State(
        pid=os.getpid(),
        created_s=own_created_s(),
        url=f"http://127.0.0.1:{port}",
        address="127.0.0.1:none",  # where nobody can listen
        token_path="",
        ports={"http": port},
        session_dir="/tmp/ray/session",
        started_at_s=0.0,
        ready=ready,
    ).write(made_settings(data_dir=folder))


def test_where_nothing_runs_nothing_is_restarted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing runs on"):
        running_state(made_settings(data_dir=tmp_path))


@pytest.mark.parametrize(
    ("port", "ready", "said"), [(8001, True, "moves no port"), (8000, False, "still starting")]
)
def test_what_cannot_be_restarted_is_said(
    tmp_path: Path, port: int, ready: bool, said: str
) -> None:
    running(tmp_path, port, ready)

    with pytest.raises(ConfigError, match=said):
        running_state(made_settings(data_dir=tmp_path, port=8000))


def test_a_whole_restart_is_named_where_rolling_was_not_asked_for(tmp_path: Path) -> None:
    running(tmp_path, 8000)
    settings = made_settings(data_dir=tmp_path, port=8000)

    with pytest.raises(ConfigError, match="`finstage down`, then `finstage up`") as refused:
        restart_service(settings, Console(), rolling=False, actors=False, timeout_s=1)

    assert "\n" not in refused.value.message


def test_a_ray_that_does_not_answer_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "0")  # so that they are as before afterwards
    running(tmp_path, 8000)
    settings = made_settings(data_dir=tmp_path, port=8000)

    with pytest.raises(ConfigError, match="no Ray answers at 127.0.0.1:none"):
        restart_service(settings, Console(), rolling=True, actors=False, timeout_s=1)
