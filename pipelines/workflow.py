"""Tasks in an order: chains, groups with a join, conditions, templates.

A shape is turned into tasks that wait for each other, and all are stored in one transaction.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from infra.errors import TaskRejected
from pipelines.context import current_task
from pipelines.registry import TaskSpec
from pipelines.submission import (
    OPERATORS,
    Condition,
    Dependencies,
    Mode,
    Submission,
    Take,
    TaskPriority,
    new_task_id,
    policy_fault,
)

OnFailure = Literal["stop", "go_on"]


@dataclass(frozen=True, slots=True)
class Options:
    """What one submission may have other than its function declares."""

    priority: TaskPriority | None = None
    max_retries: int | None = None
    timeout_s: float | None = None
    delay_s: float = 0.0
    key: str | None = None
    webhook: tuple[str, str] | None = None
    code: bytes | None = None


@dataclass(frozen=True, slots=True)
class Param:
    """Stands in a template for what is given when it is submitted."""

    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a task, not submitted yet."""

    spec: TaskSpec
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Options = Options()


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps one after the other; each gets the result of the one before as first argument.

    Where one fails or is cancelled, those after it are cancelled.
    """

    steps: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Steps side by side; `join` gets the list of their results, in order.

    `on_failure`: `stop` cancels the join where one fails, the others go on; `go_on` joins all the
    same, with `{"error": {"code", "message"}}` in the place of a result.
    """

    steps: tuple[Shape, ...]
    join: Step | None = None
    on_failure: OnFailure = "stop"


@dataclass(frozen=True, slots=True)
class When:
    """After a step, one of two: `then` where the condition holds of its result, `otherwise` else.

    Both get that result; the one that is not chosen is cancelled as `condition_false`.
    """

    step: Shape
    condition: Condition
    then: Step
    otherwise: Step | None = None


Shape = Step | Chain | Group | When


def chain(*steps: Shape) -> Chain:
    """Return steps one after the other; raises TaskRejected for none."""
    if not steps:
        raise TaskRejected("a chain needs at least one step")
    return Chain(tuple(steps))


def group(*steps: Shape, join: Step | None = None, on_failure: OnFailure = "stop") -> Group:
    """Return steps side by side; raises TaskRejected for none."""
    if not steps:
        raise TaskRejected("a group needs at least one step")
    return Group(tuple(steps), join, on_failure)


def when(
    step: Shape,
    field: str,
    op: str,
    value: Any = None,
    *,
    then: Step,
    otherwise: Step | None = None,
) -> When:
    """Return a step and what follows it, chosen by a member of its result.

    `field` is a path such as `signals.rsi`, empty for the result itself; `op` one of ==, !=, <,
    <=, >, >=, in, exists. Raises TaskRejected for another.
    """
    if op not in OPERATORS:
        raise TaskRejected(f"{op!r} compares nothing; use one of {', '.join(OPERATORS)}")
    return When(step, Condition(field, op, value), then, otherwise)


@dataclass(frozen=True, slots=True)
class Template:
    """A shape with `Param`s in the place of arguments."""

    shape: Shape

    def filled(self, /, **values: Any) -> Shape:
        """Return the shape with these values; raises TaskRejected unless it takes just these."""
        names = set(_params(self.shape))
        if missing := names - set(values):
            raise TaskRejected(f"the template needs {', '.join(sorted(missing))}")
        if extra := set(values) - names:
            raise TaskRejected(f"the template does not take {', '.join(sorted(extra))}")
        filled: Shape = _filled(self.shape, values)
        return filled


def template(shape: Shape) -> Template:
    """Return a shape to be submitted many times, with other values each time."""
    return Template(shape)


@dataclass(slots=True)
class Plan:
    """The tasks of a shape: all of them, and those with which it ends."""

    submissions: list[Submission] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


def planned(shape: Shape) -> Plan:
    """Return a shape as tasks to submit together. Raises TaskArgumentsInvalid, TaskRejected."""
    plan = Plan()
    graph_id = None if isinstance(shape, Step) else str(uuid.uuid4())
    plan.ends = _add(plan, shape, _Before(), graph_id)
    return plan


@dataclass(frozen=True, slots=True)
class _Before:
    """What a part of a shape follows."""

    ids: tuple[str, ...] = ()
    mode: Mode = "all"
    take: Take = "none"
    when: Condition | None = None
    unless: bool = False

    def needs(self) -> str | None:
        if not self.ids:
            return None
        return Dependencies(self.ids, self.mode, self.take, self.when, self.unless).as_json()


def _add(plan: Plan, shape: Shape, before: _Before, graph_id: str | None) -> list[str]:
    if isinstance(shape, Step):
        submission = _submission(shape, before, graph_id)
        plan.submissions.append(submission)
        return [submission.id]
    if isinstance(shape, Chain):
        for step in shape.steps:
            ends = _add(plan, step, before, graph_id)
            before = _after(step, ends)
        return ends
    if isinstance(shape, Group):
        ends = [end for step in shape.steps for end in _add(plan, step, before, graph_id)]
        if shape.join is None:
            return ends
        mode: Mode = "all" if shape.on_failure == "stop" else "settled"
        return _add(plan, shape.join, _Before(tuple(ends), mode, "list"), graph_id)
    (end,) = _add(plan, shape.step, before, graph_id)
    chosen = _Before((end,), "all", "one", shape.condition)
    ends = _add(plan, shape.then, chosen, graph_id)
    if shape.otherwise is not None:
        ends += _add(plan, shape.otherwise, replace(chosen, unless=True), graph_id)
    return ends


def _after(step: Shape, ends: Sequence[str]) -> _Before:
    """Return how what comes next follows a part that ends so."""
    if isinstance(step, When):
        return _Before(tuple(ends), "any", "one")
    if isinstance(step, Group) and step.join is None:
        mode: Mode = "all" if step.on_failure == "stop" else "settled"
        return _Before(tuple(ends), mode, "list")
    return _Before(tuple(ends), "all", "one")


def _submission(step: Step, before: _Before, graph_id: str | None) -> Submission:
    spec, options = step.spec, step.options
    args = step.args
    if before.take != "none":  # the place of what comes before, which is not there yet
        spec.bind_partial(args, dict(step.kwargs))
        arguments = spec.encoded(args, dict(step.kwargs))
        unique_key = None
    else:
        arguments = spec.arguments(args, dict(step.kwargs))
        unique_key = spec.unique_key(args, dict(step.kwargs))
    parent = current_task()
    priority = spec.priority if options.priority is None else options.priority
    retries = spec.max_retries if options.max_retries is None else options.max_retries
    timeout_s = spec.timeout_s if options.timeout_s is None else options.timeout_s
    delay_s = 0.0 if options.delay_s < 0 else options.delay_s  # its time is over
    if (wrong := policy_fault(retries, timeout_s, spec.retry_delay_s, delay_s)) is not None:
        raise TaskRejected(f"{spec.name}: {wrong}")
    hook = options.webhook
    return Submission(
        id=new_task_id(),
        name=spec.name,
        target=spec.target,
        arguments=arguments,
        priority=int(priority),
        max_retries=retries,
        retry_delay_s=spec.retry_delay_s,
        timeout_s=timeout_s,
        delay_s=delay_s,
        unique_key=unique_key,
        idempotency_key=None if options.key is None else _hashed(options.key),
        parent_id=None if parent is None else parent.task_id,
        graph_id=graph_id,
        needs=before.needs(),
        webhook=None if hook is None else orjson.dumps([*hook, spec.name]).decode(),
        code=options.code,
    )


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


# -- templates ---------------------------------------------------------------------------------


def _params(value: Any) -> list[str]:
    if isinstance(value, Param):
        return [value.name]
    return [name for part in _parts(value) for name in _params(part)]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Step):
        return [*value.args, *value.kwargs.values()]
    if isinstance(value, Chain):
        return list(value.steps)
    if isinstance(value, Group):
        return [*value.steps, value.join]
    if isinstance(value, When):
        return [value.step, value.condition.value, value.then, value.otherwise]
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Param):
        return values[value.name]
    if isinstance(value, Step):
        args = tuple(_filled(part, values) for part in value.args)
        return replace(value, args=args, kwargs=_filled(dict(value.kwargs), values))
    if isinstance(value, Chain):
        return Chain(tuple(_filled(step, values) for step in value.steps))
    if isinstance(value, Group):
        steps = tuple(_filled(step, values) for step in value.steps)
        return Group(steps, _filled(value.join, values), value.on_failure)
    if isinstance(value, When):
        condition = replace(value.condition, value=_filled(value.condition.value, values))
        then, otherwise = _filled(value.then, values), _filled(value.otherwise, values)
        return When(_filled(value.step, values), condition, then, otherwise)
    if isinstance(value, dict):
        return {name: _filled(part, values) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(part, values) for part in value)
    return value
