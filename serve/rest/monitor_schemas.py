"""Shapes of the requests of monitoring, alerts about the service, rules and A/B tests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel

from serve.rest.schemas import Shape

Percent = Annotated[float, Field(ge=0, le=100)]
ShortText = Annotated[str, Field(max_length=2_000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
RuleIds = Annotated[list[Name], Field(min_length=1, max_length=200)]


class Figures(RootModel[dict[str, Any]]):
    """An object of figures; the route's description names them."""


class EmailConfig(Shape):
    """An SMTP server; `to_emails` is `from_email` where it names nobody."""

    smtp_server: Name
    smtp_port: int = Field(ge=1, le=65_535)
    username: Annotated[str, Field(max_length=200)] = ""
    password: Annotated[str, Field(max_length=200)] = ""
    from_email: Name
    to_emails: Annotated[list[Name], Field(max_length=20)] = []
    security: Literal["none", "starttls", "ssl"] | None = None


class WebhookConfig(Shape):
    """A URL that is told."""

    webhook_url: Annotated[str, Field(max_length=2_000)]


class CheckInterval(Shape):
    """How often is looked, in seconds."""

    check_interval: float = Field(ge=10, le=3_600)


class OptimisationRuleRequest(Shape):
    """A rule of a user's: it has no code of its own, and is judged by its thresholds."""

    id: str
    name: Name
    description: ShortText = ""
    optimization_type: str
    target_services: Annotated[list[Name], Field(max_length=50)] = []
    dependencies: Annotated[list[Name], Field(max_length=50)] = []
    performance_threshold: dict[str, float] | None = None


class EnableRequest(Shape):
    """`force`: though rules that it depends on are off. `reason` goes into the history."""

    rule_id: Name
    force: bool = False
    reason: ShortText = ""


class DisableRequest(Shape):
    """`reason` goes into the history."""

    rule_id: Name
    reason: ShortText = ""


class BatchEnableRequest(Shape):
    """Several rules, each after those of them that it depends on."""

    rule_ids: RuleIds
    force: bool = False
    reason: ShortText = ""


class BatchDisableRequest(Shape):
    """Several rules."""

    rule_ids: RuleIds
    reason: ShortText = ""


class VariantRequest(Shape):
    """One variant. Its `optimization_rules` are on for it, and off for those without them."""

    id: str
    name: Name
    description: ShortText = ""
    traffic_percentage: Percent
    is_control: bool = False
    optimization_rules: Annotated[list[Name], Field(max_length=20)] = []
    custom_config: dict[str, Any] = {}


class ExperimentRequest(Shape):
    """An A/B test.

    `traffic_split_method`: random (by request), or by client: user_id, session_id, custom_hash.
    `target_endpoints`: paths, `{name}` for any segment, a final `*` for all that follow.
    `min_sample_size`: requests of each variant at which the verdict is taken.
    `success_metrics`: of response_time and success_rate those that decide; none means both.
    """

    id: str
    name: Name
    description: ShortText = ""
    variants: Annotated[list[VariantRequest], Field(max_length=20)]
    traffic_split_method: str
    target_endpoints: Annotated[list[str], Field(max_length=100)]
    min_sample_size: int = 1_000
    confidence_level: float = 0.95
    success_metrics: Annotated[list[str], Field(max_length=10)] = []


class StopRequest(Shape):
    """`reason` is kept with the test."""

    reason: ShortText = ""


class ResultRequest(Shape):
    """One result that a client measured itself."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    test_id: Name
    variant_id: Name
    endpoint: Annotated[str, Field(max_length=200)]
    user_identifier: Annotated[str, Field(max_length=200)]
    response_time_ms: float = Field(ge=0, le=3_600_000)
    success: bool
    error_message: ShortText | None = None
    custom_metrics: dict[Name, float] | None = Field(None, max_length=20)


class WatchRequest(Shape):
    """Whether the monitor looks at the service."""

    on: bool


class LogLevelRequest(Shape):
    """An empty level is the configured one."""

    level: Literal["", "DEBUG", "INFO", "WARNING", "ERROR"]
