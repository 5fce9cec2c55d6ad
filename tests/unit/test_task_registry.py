"""Task functions by name: what their parameters may be called, what a store takes of them."""

from __future__ import annotations

import copy
import inspect
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from infra.errors import TaskArgumentsInvalid, TaskNotStorable, TaskRejected, TaskUnknown
from pipelines.api import TaskFunction, task
from pipelines.registry import TaskSpec, all_tasks, declare, spec_of, task_named
from pipelines.submission import TaskPriority
from pipelines.workflow import Options, Step, planned

# What means something to pydantic's create_model, to a model, or to Python's own calls.
NAMES = sorted(
    {name for name in dir(BaseModel) if name.isidentifier()}
    | {name for name in inspect.signature(__import__("pydantic").create_model).parameters}
    | {"_x", "__x", "model_config", "model_fields", "self", "cls", "name", "args", "kwargs"}
    | {"argument_0", "shape", "values", "request_id", "context", "json", "copy", "schema"}
)


def spec(function: Any, **policy: Any) -> TaskSpec:
    given = {
        "name": None, "priority": TaskPriority.NORMAL, "max_retries": 1, "timeout_s": None,
        "retry_delay_s": 1.0, "unique_by": (),
    }  # fmt: skip
    return spec_of(function, **(given | policy))


def taking(name: str, hint: str = "int", default: str = "") -> Any:
    """Return a function with a parameter of this name, which returns what it got."""
    scope: dict[str, Any] = {}
    exec(f"def f({name}: {hint}{default}): return {name}", scope)
    return scope["f"]


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_may_have_any_name(name: str) -> None:
    function = taking(name)
    found = spec(function)
    for args, kwargs in (((7,), {}), ((), {name: "7"})):
        assert found.checked(args, kwargs) == {name: 7}
    with pytest.raises(TaskArgumentsInvalid) as caught:
        found.checked((), {name: "x"})
    assert caught.value.problems[0][0] == name
    with pytest.raises(TaskArgumentsInvalid, match="missing"):
        found.checked((), {})
    assert spec(taking(name, default=" = 3")).checked((), {}) == {}

    step = TaskFunction(found, durable=False).s(**{name: 5})
    wanted = f'{{"args":[],"kwargs":{{"{name}":5}}}}'
    assert planned(step).submissions[0].arguments == wanted.encode()


def test_what_a_parameter_declares_holds() -> None:
    def f(
        _low: Annotated[int, Field(ge=1)],
        *rest: int,
        schema: Annotated[str, Field(alias="other", max_length=2)] = "no",
        **more: float,
    ) -> None: ...

    found = spec(f)
    bound = found.checked(("2", "3"), {"schema": "ab", "model_config": "1.5"})
    assert bound == {"_low": 2, "rest": (3,), "schema": "ab", "more": {"model_config": 1.5}}
    with pytest.raises(TaskArgumentsInvalid) as caught:
        found.checked((0, "x"), {"schema": "abc"})
    assert {problem[0] for problem in caught.value.problems} == {"_low", "rest.0", "schema"}


@pytest.mark.parametrize("name", ["gülle", "заря", "a" * 201, "", " a", "a ", "a\nb", "\ud800"])
def test_a_name_that_no_database_keeps_is_refused_at_registration(name: str) -> None:
    found = spec(lambda: None, name=name or " ")
    before = set(all_tasks())
    with pytest.raises(ValueError, match="of a task"):
        declare(found)
    assert set(all_tasks()) == before


def test_a_place_that_no_database_keeps_is_refused_at_registration() -> None:
    scope: dict[str, Any] = {"__name__": "tests.unit.test_task_registry"}
    exec("def größe(): ...", scope)
    with pytest.raises(ValueError, match="another name"):
        task(name="size")(scope["größe"])


@pytest.mark.parametrize(
    "policy",
    [
        {"timeout_s": float("nan")}, {"timeout_s": float("inf")}, {"timeout_s": 0.0},
        {"retry_delay_s": float("nan")}, {"retry_delay_s": float("inf")},
        {"retry_delay_s": -1.0}, {"max_retries": -1}, {"max_retries": 10**12},
    ],
)  # fmt: skip
def test_a_policy_that_no_database_keeps_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(policy))):
        spec(lambda: None, **policy)


@pytest.mark.parametrize(
    "options",
    [
        Options(delay_s=float("inf")), Options(delay_s=float("nan")), Options(delay_s=1e308),
        Options(timeout_s=float("nan")), Options(max_retries=10**12),
    ],
)  # fmt: skip
def test_options_that_no_database_keeps_are_refused(options: Options) -> None:
    with pytest.raises(TaskRejected, match="is (nan|inf|1e|10000)"):
        planned(Step(spec(lambda: None), (), {}, options))


def test_a_time_that_is_over_is_now() -> None:
    step = Step(spec(lambda: None), (), {}, Options(delay_s=-5.0))
    assert planned(step).submissions[0].delay_s == 0.0


def test_arguments_larger_than_a_packet_are_refused() -> None:
    with pytest.raises(TaskNotStorable, match="the limit is"):
        spec(taking("text", "str")).arguments(("x" * (4 * 2**20),), {})


def test_an_unknown_name_lists_all_and_the_nearest() -> None:
    with pytest.raises(TaskUnknown) as caught:
        task_named("proces_dataset")
    assert caught.value.context["nearest"][0] == "process_dataset"
    assert caught.value.context["known"] == sorted(all_tasks())
    assert "cleanup_data" in caught.value.message
    with pytest.raises(TaskUnknown) as caught:
        task_named("q" * 100_000)
    assert caught.value.known
    assert copy.copy(caught.value).known
