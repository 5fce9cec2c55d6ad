"""Every setting of the service, in one frozen class, read once from the environment or `.env`.

Names are `FINSTAGE_` plus the field's name in capitals. An unknown `FINSTAGE_*` name stops the
start and suggests the nearest one.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.caches.catalogue import parsed_specs
from infra.errors import ConfigError, TargetInvalid
from infra.notify.channels import checked_channel, is_webhook
from infra.notify.signing import signed_headers
from infra.notify.targets import checked_target, shown

PREFIX = "FINSTAGE_"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

SOURCE_NAMES = ("replay", "simulated", "yahoo")
LIVE_SOURCES = ("yahoo",)
RECORDING = "replay:"  # a file of `finstage record` follows

Names = Annotated[tuple[str, ...], NoDecode]
Port = Annotated[int, Field(ge=0, le=65535)]


def _expanded(path: Path) -> Path:
    return path.expanduser().absolute()


def _checked_source(text: str) -> str:
    if text.startswith(RECORDING):
        return RECORDING + str(_expanded(Path(text.removeprefix(RECORDING))))
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in SOURCE_NAMES:
            allowed = f"{', '.join(SOURCE_NAMES)}, or {RECORDING}FILE"
            raise ValueError(f"{name!r} is no source; use one of {allowed}")
    if len(names) > 1 and any(name not in LIVE_SOURCES for name in names):
        raise ValueError("a chain holds live sources only: real never falls back to unreal")
    if len(set(names)) < len(names):
        raise ValueError("a source stands twice in the chain")
    return ",".join(names)


class Settings(BaseSettings):
    """What the operator decided; every default runs on a laptop."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", frozen=True, extra="ignore", env_ignore_empty=True
    )

    # -- where it listens ------------------------------------------------------------------
    # Another address than loopback needs keys; a wrong one fails at start.
    host: str = Field("127.0.0.1", description="Address that HTTP and WebSocket clients reach.")
    port: int = Field(8000, ge=1, le=65535, description="Port of API, WebSocket and pages.")
    url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Where clients ask, and the commands jobs, tasks, submit, monitor and "
        "dashboard; empty: the service of the data directory.",
    )
    ray_dashboard_port: int = Field(
        8265, ge=1, le=65535, description="Ray dashboard; where taken, a free port is used."
    )
    # 0 means: a free port, chosen at start and printed.
    ray_port: Port = Field(0, description="Ray's own control port (GCS); 0 is a free one.")
    ray_metrics_port: Port = Field(0, description="Ray's Prometheus export; 0 is a free one.")
    ray_agent_port: Port = Field(0, description="Ray's dashboard agent; 0 is a free one.")
    ray_agent_grpc_port: Port = Field(0, description="Its gRPC side; 0 is a free one.")
    ray_node_manager_port: Port = Field(0, description="Ray's raylet; 0 is a free one.")
    ray_object_manager_port: Port = Field(0, description="Its object transfer; 0 is a free one.")
    ray_runtime_env_port: Port = Field(0, description="Its environments; 0 is a free one.")
    ray_dashboard_metrics_port: Port = Field(0, description="The dashboard's own metrics.")
    ray_autoscaler_metrics_port: Port = Field(0, description="The autoscaler's metrics.")
    fallback_port: Port = Field(0, description="Serve's fallback proxy; 0 is a free one.")
    fallback_grpc_port: Port = Field(0, description="Its gRPC side; 0 is a free one.")
    grpc_port: Port = Field(0, description="Serve's gRPC port, unused; 0 is a free one.")
    haproxy_stats_port: Port = Field(0, description="HAProxy's statistics; 0 is a free one.")
    haproxy_metrics_port: Port = Field(0, description="HAProxy's Prometheus; 0 is a free one.")

    # -- what it serves --------------------------------------------------------------------
    source: Annotated[str, AfterValidator(_checked_source)] = Field(
        "replay",
        description="Where prices come from: `replay` (real days of the past), `simulated`, "
        "`yahoo`, or `replay:FILE`, a file of `finstage record`.",
    )
    symbols: Names = Field(
        (), description="Monitored set, comma separated; empty: all that the source starts with."
    )
    data_dir: Annotated[Path, AfterValidator(_expanded)] = Field(
        Path("~/.local/share/finstage"), description="State, logs and the Ray token live here."
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        description="Store, as `mysql://USER:PASSWORD@HOST/DATABASE`; empty: SQLite in the data "
        "directory.",
    )
    # FULL survives a power cut too and makes each small write wait for the disk.
    sqlite_synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL", description="SQLite survives `kill -9`; with FULL also a power cut."
    )
    # Of the whole service: each of its processes gets its share, at least one of each.
    store_pool_size: int = Field(50, ge=1, description="Connections to MySQL that stay open.")
    store_pool_overflow: int = Field(50, ge=1, description="And more when they are needed.")
    store_pool_timeout_s: float = Field(
        60.0, gt=0, description="How long a caller waits for a connection."
    )
    store_pool_recycle_s: int = Field(
        1_800, ge=1, description="A connection older than this is opened anew."
    )
    # What is over its age is archived as Parquet, then deleted; 0 keeps it for ever.
    keep_bars_days: int = Field(
        3_650, ge=0, description="Days before a symbol's newest bar; imports are kept."
    )
    keep_contents_days: int = Field(365, ge=0, description="Age of news.")
    keep_alerts_days: int = Field(365, ge=0, description="Age of alerts, and who was told.")
    keep_service_alerts_days: int = Field(30, ge=1, description="Age of alerts about the service.")
    keep_slow_queries_days: int = Field(30, ge=0, description="Age of slow queries.")
    slow_query_s: float = Field(1.0, gt=0, description="Queries that take longer are kept.")
    # Under 1 s a session is a handful of ticks and every cache is cold; 23,400 is real time.
    replay_session_s: float = Field(60.0, ge=0.5, description="Seconds that a session lasts.")
    # Under 4 a path cannot touch open, high, low and close; over 10 a second costs CPU.
    replay_ticks: int = Field(240, ge=4, le=100_000, description="Ticks of a symbol a session.")
    replay_seed: int = Field(0, ge=0, description="Seed of the made path between real prices.")
    replay_started_at_s: float = Field(
        0.0, ge=0, description="Unix time at which the replay began; 0: when the service starts."
    )

    # 10 plays an hour in six minutes.
    recording_speed: float = Field(
        1.0, ge=0, description="How much faster `replay:FILE` goes; 0: as fast as it is taken."
    )

    # Each costs memory and a tick's work; 10,000 want 24 GB and a core.
    simulated_symbols: int = Field(10, ge=1, le=10_000, description="Symbols that are made.")
    simulated_ticks_per_s: float = Field(
        1.0, gt=0, le=50, description="Ticks of each made symbol a second."
    )
    simulated_seed: int = Field(0, ge=0, description="Seed of the made market.")
    simulated_faults: str = Field(
        "", description="Faults to play, as `kind:symbols@start+seconds;…` (docs/sources.md)."
    )

    # -- upstream --------------------------------------------------------------------------
    yahoo_url: str = Field("", description="Another server in Yahoo's place: a proxy, a mirror.")
    yahoo_stream_url: str = Field("", description="Another streamer in Yahoo's place.")
    # Yahoo tells no limits; far above this it answers 429, which halves the rate by itself.
    yahoo_requests_per_s: float = Field(
        5.0, gt=0, le=1_000, description="Requests a second to Yahoo, at most."
    )
    yahoo_at_once: int = Field(4, ge=1, le=64, description="Requests to Yahoo at one time.")
    yahoo_poll_s: float = Field(
        30.0, ge=1, description="Seconds between polls of quotes, beside the stream."
    )
    # Shorter: more requests. Longer: a price without a stream is older.
    quote_fresh_s: float = Field(5.0, ge=0, description="A polled price is new for so long.")
    # After these, an upstream that does not answer is an error instead of an old value.
    quote_stale_s: float = Field(900.0, ge=0, description="Oldest price given as stale.")
    history_stale_s: float = Field(
        7 * 86_400.0, ge=0, description="Oldest history given as stale."
    )
    other_stale_s: float = Field(
        86_400.0, ge=0, description="Oldest news, figures, actions given as stale."
    )
    interest_s: float = Field(
        300.0, ge=10, description="Ticks of a symbol flow for so long after it was asked for."
    )

    # -- who may ---------------------------------------------------------------------------
    api_keys: SecretStr = Field(SecretStr(""), description="Keys as `name:key,name:key`.")
    key_for_reads: bool = Field(False, description="Ask for a key on reads too.")
    # 1 makes a page unusable, very many leave one bot all of the service.
    key_requests_per_s: int = Field(200, ge=1, description="Requests a second of one key.")
    allowed_hosts: Names = Field((), description="Host names answered, beside loopback and host.")
    cors_origins: Names = Field((), description="Origins of pages elsewhere that may call.")

    # -- limits ----------------------------------------------------------------------------
    # Higher: one call may hold the indicator process for tens of milliseconds.
    max_symbols_in_list: int = Field(500, ge=1, description="Symbols in one request.")
    max_symbols_on_socket: int = Field(1_000, ge=1, description="Symbols one socket may take.")
    max_universe: int = Field(10_000, ge=1, description="Symbols known to the service.")
    # Higher needs more descriptors: HAProxy takes two for each, and 4,800 beside.
    max_sockets: int = Field(5_000, ge=1, description="Sockets and event streams of a replica.")
    max_sockets_of_key: int = Field(1_000, ge=1, description="Of them, those with one API key.")
    # More: a client's burst can hold a replica; a heartbeat a second is one.
    socket_messages_per_s: int = Field(
        20, ge=1, description="Messages a second that one socket may send; ten times that at once."
    )
    # Of a socket that takes all messages; what it may miss and still recover by offset.
    outbox_bytes: int = Field(2**20, ge=2**12, description="Frames that wait for one socket.")
    max_body_bytes: int = Field(2**20, ge=1_024, description="Longest body of a request.")
    max_message_bytes: int = Field(65_536, ge=1_024, description="Longest message of a client.")

    # -- memory and speed ------------------------------------------------------------------
    # 0 keeps nothing: every read is a miss. Above the working set it only costs memory.
    near_cache_bytes: int = Field(64 * 2**20, ge=0, description="Rendered answers a replica.")
    near_cache_entries: int = Field(10_000, ge=0, description="The same, as a count.")
    shared_cache_bytes: int = Field(64 * 2**20, ge=0, description="Values in the CacheActor.")
    shared_cache_entries: int = Field(10_000, ge=0, description="The same, as a count.")
    caches: str = Field(
        "",
        description="Sizes and lifetimes of named caches in each process, as "
        "`name=entries:seconds[:MiB];…`; `-` for seconds without end.",
    )
    cache_backend: SecretStr = Field(
        SecretStr("actor"),
        description="What processes share: `actor` (the CacheActor), `memory` (nothing), or "
        "`redis://HOST:PORT/DB`.",
    )
    memory_watch_s: float = Field(300.0, ge=1, description="Seconds between looks at memory.")
    # Of the machine, not of the service: others need memory too.
    memory_shed_pct: float = Field(
        85.0, gt=0, le=100, description="Caches are cut where a machine's memory is so full."
    )
    memory_hit_warn_pct: float = Field(
        30.0, ge=0, le=100, description="A lower hit rate of all caches is a warning."
    )
    monitor_s: float = Field(10.0, ge=1, description="Seconds between readings of the service.")
    auto_tuning: bool = Field(
        True, description="Caches, batches and tasks are tuned from readings at first."
    )
    hub_history_bytes: int = Field(64 * 2**20, ge=2**16, description="Messages kept by the hub.")
    hub_history_s: float = Field(120.0, gt=0, description="And for how long.")
    # Longer: a value is told later. Shorter: more calls for the same values.
    batch_ms: float = Field(3.0, ge=0, le=1_000, description="How long the hub collects.")
    gzip_above_bytes: int = Field(1_024, ge=0, description="Answers above this are zipped.")
    actor_wait_s: float = Field(5.0, gt=0, description="How long a caller waits for an actor.")
    # Answers from memory go on for this long after the hub was last heard.
    near_cache_lease_s: float = Field(5.0, gt=0, description="Silence of the hub tolerated.")

    # -- live indicators -------------------------------------------------------------------
    # Each is a kernel call a tick, and for every symbol at its interval some hundred bytes.
    live_sets: int = Field(
        64, ge=6, le=1_000, description="Live indicators with their parameters, by interval."
    )
    live_grace_s: float = Field(
        60.0, ge=5, description="A live indicator goes on for so long after it was last wanted."
    )
    live_topics: Names = Field(
        (), description="What is always live, as `AAPL:1d`, comma separated."
    )

    # -- alerts ----------------------------------------------------------------------------
    # Lower: every volatile hour is an alert.
    surge_pct: float = Field(5.0, gt=0, description="A surge or plunge is a change of so much.")
    surge_window_s: float = Field(
        300.0, ge=1, description="Within so many seconds of the market's time."
    )
    thresholds_file: Path | None = Field(
        None, description="TOML file of thresholds by symbol, category and default."
    )
    # Each is asked on every price of its symbols.
    max_alert_rules: int = Field(1_000, ge=0, description="Alert rules that users may make.")
    notify_targets: SecretStr = Field(
        SecretStr(""),
        description="Who is told of built-in alerts beside the stream: webhooks and Apprise URLs "
        "(`mailto://…`, `tgram://…`), comma separated.",
    )
    notify_secret: SecretStr = Field(
        SecretStr(""), description="Signs those webhooks: `whsec_` and base64 (docs/alerts.md)."
    )
    notify_timeout_s: float = Field(
        10.0, gt=0, description="How long a webhook or channel may take to answer."
    )
    # True lets whoever may make rules reach what this machine reaches.
    notify_private: bool = Field(
        False, description="Tell private addresses too, of this machine and network."
    )

    # -- tasks -----------------------------------------------------------------------------
    # Each is a process of 100 to 300 MB while it works.
    task_workers: int = Field(4, ge=1, le=256, description="Tasks that run at one time.")
    task_modules: Names = Field(
        (), description="Modules with tasks of your own, comma separated; on PYTHONPATH."
    )
    task_queue: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of the queue; services that share a store each need their own.",
    )
    max_tasks: int = Field(200_000, ge=1, description="Tasks that wait; more are refused.")
    task_ageing_s: float = Field(
        60.0, gt=0, description="One start in eight goes to a task that waited longer than this."
    )
    task_result_bytes: int = Field(
        16 * 2**20, ge=1_024, description="Largest result of a task; over 64 KiB it is a file."
    )
    keep_results_h: float = Field(
        24.0, gt=0, description="Hours that ended tasks and their results are kept."
    )

    # -- the machine -----------------------------------------------------------------------
    api_replicas: int = Field(1, ge=1, le=64, description="Processes that answer REST.")
    stream_replicas: int = Field(1, ge=1, le=64, description="Processes that hold sockets.")
    ray_cpus: int = Field(2, ge=1, description="CPUs that Ray's tasks share.")
    object_store_bytes: int = Field(
        256 * 2**20, ge=80 * 2**20, description="Ray's shared memory, in /dev/shm."
    )
    ray_dashboard: bool = Field(True, description="Start Ray's dashboard.")
    haproxy_maxconn: int = Field(
        0, ge=0, description="Connections HAProxy takes; 0: what the descriptors allow."
    )
    stop_s: float = Field(15.0, ge=3, description="Longest time a stop takes.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is logged."
    )

    @field_validator(
        "symbols", "allowed_hosts", "cors_origins", "live_topics", "task_modules", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("api_keys")
    @classmethod
    def _keys_are_named(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @field_validator("caches")
    @classmethod
    def _caches_are_bounds(cls, value: str) -> str:
        parsed_specs(value)
        return value

    @field_validator("cache_backend")
    @classmethod
    def _backend_is_one(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text not in ("actor", "memory") and not text.startswith(
            ("redis://", "rediss://", "unix://")
        ):
            raise ValueError("must be `actor`, `memory` or a redis:// URL")
        return value

    @field_validator("notify_secret")
    @classmethod
    def _secret_signs(cls, value: SecretStr) -> SecretStr:
        if text := value.get_secret_value():
            signed_headers(text, "check", 0, b"")
        return value

    @model_validator(mode="after")
    def _targets_can_be_told(self) -> Self:
        for target in self.targets:
            if not is_webhook(target):
                checked_channel(target, self.notify_private)
                continue
            checked_target(target, self.notify_private)
            if not self.notify_secret.get_secret_value():
                raise ValueError(
                    "a webhook among FINSTAGE_NOTIFY_TARGETS needs FINSTAGE_NOTIFY_SECRET, "
                    "with which it is signed"
                )
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """Return who is told of built-in alerts."""
        text = self.notify_targets.get_secret_value()
        return tuple(part.strip() for part in text.split(",") if part.strip())

    @property
    def recording(self) -> Path | None:
        """Return the file that is to be played, if that is the source."""
        if self.source.startswith(RECORDING):
            return Path(self.source.removeprefix(RECORDING))
        return None

    @property
    def source_name(self) -> str:
        """Return the name of the source, or of those in the chain, without a file's."""
        return self.source if self.recording is None else "recording"

    @property
    def keys(self) -> dict[str, str]:
        """Return the API keys by name."""
        return parse_keys(self.api_keys.get_secret_value())

    @property
    def max_sockets_without_key(self) -> int:
        """Return how many sockets there may be before one without a key is refused.

        Where there are keys a tenth of the places is kept for them.
        """
        return self.max_sockets - self.max_sockets // 10 if self.keys else self.max_sockets

    @property
    def run_dir(self) -> Path:
        """Return the folder of what only the running service needs: state, token, sockets."""
        return self.data_dir / "run"

    @property
    def log_dir(self) -> Path:
        """Return the folder of the JSON log lines."""
        return self.data_dir / "logs"

    @property
    def hosts(self) -> frozenset[str]:
        """Return the host names that requests may name."""
        return frozenset(h.lower() for h in (*LOOPBACK_HOSTS, self.host, *self.allowed_hosts))

    def begun(self, at_s: float) -> Settings:
        """Return these as the processes of a service know them that began at a Unix time."""
        return self.model_copy(update={"replay_started_at_s": at_s})


def parse_keys(text: str) -> dict[str, str]:
    """Return `name:key,name:key` as a mapping; raises ValueError that shows no key."""
    keys: dict[str, str] = {}
    for number, part in enumerate(filter(None, (p.strip() for p in text.split(","))), start=1):
        name, colon, key = part.partition(":")
        if not colon or not name or len(key) < 8:
            raise ValueError(f"entry {number} must be name:key with a key of 8 characters or more")
        if name in keys:
            raise ValueError(f"the name {name!r} stands twice")
        keys[name] = key
    return keys


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings, or raise ConfigError with one line that names the setting."""
    given = os.environ if environ is None else environ
    _refuse_unknown(set(given) | set(dotenv_values(".env")))
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{name}: {reason}" if first["loc"] else reason) from None
    except TargetInvalid as error:
        raise ConfigError(f"FINSTAGE_NOTIFY_TARGETS: {error.message}") from None
    if not settings.keys and settings.host not in LOOPBACK_HOSTS:
        raise ConfigError(
            f"FINSTAGE_HOST is {settings.host}, which other machines reach: "
            "set FINSTAGE_API_KEYS=name:key first, or stay on 127.0.0.1"
        )
    return settings


def _refuse_unknown(names: set[str]) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name} is not a setting{hint} (`finstage config` lists them)")


def origin_of(settings: Settings, field: str) -> str:
    """Return where a setting's value came from: environment, .env or default."""
    name = PREFIX + field.upper()
    if os.environ.get(name):
        return "environment"
    return ".env" if dotenv_values(".env").get(name) else "default"


def masked(settings: Settings, field: str) -> str:
    """Return a setting for people, with keys and passwords hidden."""
    value = getattr(settings, field)
    if field == "notify_targets":
        return ", ".join(shown(target) for target in settings.targets)
    if field == "api_keys":
        return ", ".join(f"{name}:********" for name in settings.keys)
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value)
