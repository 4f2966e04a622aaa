"""Every setting of the control plane, read from the environment with the prefix FLOW_NEXUS_."""

from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX: Final = "FLOW_NEXUS_"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", env_parse_none_str="null")

    database_url: str = Field(description="SQLAlchemy URL of Postgres, with the psycopg driver")
    redis_url: str = Field(description="URL of the Celery broker")
    secret_key: SecretStr = Field(
        min_length=32, description="derives the deployment mark, the tokens of clusters and the hashes of API keys"
    )
    old_secret_key: SecretStr | None = Field(
        None, min_length=32, description="the secret key before its rotation; API keys made with it stay valid"
    )
    models_dir: Path = Field(description="the folder of exported models, which the API and the worker share")

    e2b_api_key: SecretStr = Field(validation_alias=AliasChoices("FLOW_NEXUS_E2B_API_KEY", "E2B_API_KEY"))
    e2b_api_url: str | None = Field(None, validation_alias=AliasChoices("FLOW_NEXUS_E2B_API_URL", "E2B_API_URL"))
    e2b_sandbox_url: str | None = Field(None, validation_alias=AliasChoices("FLOW_NEXUS_E2B_SANDBOX_URL", "E2B_SANDBOX_URL"))
    e2b_domain: str | None = Field(None, validation_alias=AliasChoices("FLOW_NEXUS_E2B_DOMAIN", "E2B_DOMAIN"))
    e2b_http_version: Literal["1.1", "2"] | None = Field(
        None, validation_alias=AliasChoices("FLOW_NEXUS_E2B_HTTP_VERSION", "E2B_HTTP_VERSION")
    )
    sandbox_provider: str = Field(
        "workers.sandboxes.client:SandboxClient", description="the class that implements SandboxProvider, as module:name"
    )
    template_prefix: str = Field(
        "flow-nexus-", description="the prefix of the E2B templates; a template's name is the prefix and python or nodejs"
    )

    database_pool_size: int = Field(20, ge=1)
    database_statement_timeout_s: float = Field(10, gt=0)

    price_worker_per_minute: Decimal = Field(Decimal("0.05"), ge=0, description="USD per worker (or validator) minute")
    price_aggregator_per_minute: Decimal = Field(Decimal("0.08"), ge=0, description="USD per aggregator minute")

    sandbox_timeout_s: int = Field(900, ge=60, description="seconds after which a sandbox ends when no step extends it")
    node_start_timeout_s: float = Field(120, gt=0)
    round_deadline_s: float = Field(
        1800, gt=0, description="seconds after which a round continues with the updates that have arrived"
    )
    round_quorum: float = Field(0.5, gt=0, le=1, description="the fraction of a training's workers whose updates a round needs")
    training_check_wait_s: float = Field(
        20, gt=0, description="seconds for which POST trainings waits for the check of the workers' data"
    )
    execute_timeout_s: float = Field(60, gt=0)
    execute_max_output: int = Field(
        1_000_000, ge=1, description="the largest number of bytes of stdout and of stderr of an execution"
    )
    background_timeout_s: float = Field(
        3600, gt=0, description="seconds after which an execution in the background ends, when it names no timeout"
    )
    background_max_output: int = Field(
        10_000_000,
        ge=1,
        lt=10**9,
        description="the largest number of bytes of stdout and of stderr of an execution in the background",
    )
    max_upload_bytes: int = Field(2_000_000_000, ge=1)
    max_body_bytes: int = Field(16_000_000, ge=1, description="the largest JSON body in bytes")
    sweep_interval_s: float = Field(5, gt=0)
    reconcile_interval_s: float = Field(
        30, gt=0, description="seconds between two comparisons of the rows with the provider's sandboxes"
    )
    lease_s: float = Field(10, gt=0, description="seconds after which another worker takes over the step of a dead worker")
    rate_limit: int | None = Field(6000, ge=1, description="requests of a key in a window; null: no limit")
    rate_limit_window_s: int = Field(60, ge=1)
    quota_clusters: int | None = Field(
        1000, ge=0, description="clusters of a project that are not terminated; null: no limit, as for all quotas"
    )
    quota_nodes: int | None = Field(1000, ge=0, description="nodes of a project that are not terminated")
    quota_running_sandboxes: int | None = Field(1000, ge=0, description="sandboxes of a project that run or are being started")
    quota_upload_bytes: int | None = Field(
        10**12, ge=0, description="bytes that a project uploaded to sandboxes that still exist"
    )
    quota_executions: int | None = Field(100, ge=0, description="executions in the background that have not ended")
    quota_spend_usd: Decimal | None = Field(None, ge=0, description="USD that a project spends in total")
    max_streams: int = Field(200, ge=1, description="the largest number of event streams of one API process")
    idle_timeout_minutes: float = Field(
        30,
        ge=0,
        description="minutes without training, prediction or sandbox call after which a cluster is terminated; 0: never",
    )
    limits_interval_s: float = Field(10, gt=0, description="seconds between two checks of idle times and budgets")
    retention_events_days: float | None = Field(
        90, gt=0, description="days for which events and idempotency keys are kept; null: for ever"
    )
    retention_models_days: float | None = Field(
        None, gt=0, description="days for which copies of exported models are kept; null: for ever"
    )
    retention_background_hours: float = Field(
        24, gt=0, description="hours for which a sandbox keeps the output of an execution in the background"
    )
    retention_logs_days: float | None = Field(
        30, gt=0, description="days for which rotated log files in `logs_dir` are kept; null: for ever"
    )
    logs_dir: Path | None = Field(None, description="the folder of the service's log files, when the service writes them")
    retention_interval_s: float = Field(3600, gt=0)
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="networks that webhooks may reach besides public addresses, also without TLS, with commas between them"
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="the port of the API's metrics; null: the public port serves them"
    )
    worker_metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="the port of a Celery worker's metrics; null: they are not served"
    )
    metrics_host: str = Field("127.0.0.1", min_length=1, description="the address of both ports of metrics")
    metrics_token: SecretStr | None = Field(
        None, min_length=16, description="the bearer token that metrics need; null: they need none"
    )
    metrics_per_training: bool | None = Field(
        None, description="metrics with the ids of active trainings; null: where metrics have a port or a token"
    )
    mlflow_tracking_uri: SecretStr | None = Field(
        None, description="the address of an MLflow server that gets each training as a run; it may hold a password"
    )
    mlflow_experiment: str = Field("Flow Nexus", min_length=1, description="the name of the MLflow experiment of all runs")
    otlp_endpoint: str | None = Field(
        None, description="the address of a collector of OpenTelemetry that gets traces by OTLP over HTTP, without /v1/traces"
    )
    docs: bool = Field(True, description="serve /docs")
    dashboard: bool = Field(True, description="serve /dashboard, and send browsers there from /")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = Field(
        "text", description="the form of the log: lines of text, or one JSON object a line with the ids of request and step"
    )

    @field_validator("mlflow_tracking_uri", "otlp_endpoint")
    @classmethod
    def _is_a_server(cls, value: SecretStr | str | None) -> SecretStr | str | None:
        address = value.get_secret_value() if isinstance(value, SecretStr) else value
        if address is not None and not address.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @property
    def shows_trainings(self) -> bool:
        """Whether metrics have the figures of active trainings.

        An open `/metrics` shows them only if the operator says so: they are those of all projects.
        """
        if self.metrics_per_training is None:
            return self.metrics_port is not None or self.metrics_token is not None
        return self.metrics_per_training


def wrong_settings(error: ValidationError) -> str:
    """Return the names of the settings that are missing or wrong, without their values."""
    names = [str(item["loc"][0]).upper().removeprefix(_PREFIX) for item in error.errors()]
    return ", ".join(_PREFIX + name for name in names)
