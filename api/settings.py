"""Every setting of the control plane, read from the environment with the prefix FLOW_NEXUS_."""

from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FLOW_NEXUS_", extra="ignore")

    database_url: str = Field(description="SQLAlchemy URL of Postgres, with the psycopg driver")
    redis_url: str = Field(description="URL of the Celery broker")
    secret_key: SecretStr = Field(
        min_length=32, description="signs cursors and derives the clusters' tokens and the keys' hashes"
    )
    models_dir: Path = Field(description="folder that keeps exported models; shared by the API and the worker")

    e2b_api_key: SecretStr = Field(validation_alias=AliasChoices("FLOW_NEXUS_E2B_API_KEY", "E2B_API_KEY"))
    e2b_api_url: str | None = Field(None, validation_alias=AliasChoices("FLOW_NEXUS_E2B_API_URL", "E2B_API_URL"))
    e2b_sandbox_url: str | None = Field(None, validation_alias=AliasChoices("FLOW_NEXUS_E2B_SANDBOX_URL", "E2B_SANDBOX_URL"))
    e2b_domain: str | None = Field(None, validation_alias=AliasChoices("FLOW_NEXUS_E2B_DOMAIN", "E2B_DOMAIN"))
    e2b_http_version: Literal["1.1", "2"] | None = Field(
        None, validation_alias=AliasChoices("FLOW_NEXUS_E2B_HTTP_VERSION", "E2B_HTTP_VERSION")
    )
    sandbox_provider: str = Field(
        "workers.sandboxes.client:SandboxClient", description="class that implements SandboxProvider, reached by name"
    )
    template_prefix: str = Field("flow-nexus-", description="E2B template name = prefix + python|nodejs")

    database_pool_size: int = Field(20, ge=1)
    database_statement_timeout_s: float = Field(10, gt=0)

    price_worker_per_minute: Decimal = Field(Decimal("0.05"), ge=0, description="USD per worker (or validator) minute")
    price_aggregator_per_minute: Decimal = Field(Decimal("0.08"), ge=0, description="USD per aggregator minute")

    sandbox_timeout_s: int = Field(900, ge=60, description="a sandbox dies this long after the last step that extended it")
    node_start_timeout_s: float = Field(120, gt=0)
    round_deadline_s: float = Field(1800, gt=0, description="a round not finished by then goes on with what has arrived")
    round_quorum: float = Field(0.5, gt=0, le=1, description="fraction of a training's workers whose updates make a round")
    training_check_wait_s: float = Field(20, gt=0, description="how long POST trainings holds for the workers' data check")
    execute_timeout_s: float = Field(60, gt=0)
    execute_max_output: int = Field(1_000_000, ge=1, description="bytes of stdout and of stderr kept per execution")
    max_upload_bytes: int = Field(2_000_000_000, ge=1)
    max_body_bytes: int = Field(16_000_000, ge=1, description="largest JSON body")
    sweep_interval_s: float = Field(5, gt=0)
    reconcile_interval_s: float = Field(30, gt=0, description="how often rows and the provider's sandboxes are compared")
    lease_s: float = Field(10, gt=0, description="a step whose worker died is taken over after so long")
    rate_limit: int | None = Field(6000, ge=1, description="requests per key in a window; null: no limit")
    rate_limit_window_s: int = Field(60, ge=1)
    quota_clusters: int | None = Field(1000, ge=0, description="per project, not terminated; null: no limit, as for the others")
    quota_nodes: int | None = Field(1000, ge=0, description="per project, not terminated")
    quota_running_sandboxes: int | None = Field(1000, ge=0, description="per project, running or about to")
    quota_upload_bytes: int | None = Field(10**12, ge=0, description="per project, in sandboxes that still exist")
    quota_spend_usd: Decimal | None = Field(None, ge=0, description="per project, over all time")
    max_streams: int = Field(200, ge=1, description="event streams that one API process serves at once")
    idle_timeout_minutes: float = Field(
        30, ge=0, description="a cluster without training, prediction or sandbox call is ended after so long; 0 = never"
    )
    limits_interval_s: float = Field(10, gt=0, description="how often idle time and budgets are looked at")
    retention_events_days: float | None = Field(90, gt=0, description="events and idempotency keys; null keeps them for ever")
    retention_models_days: float | None = Field(None, gt=0, description="kept copies of exports; null keeps them for ever")
    retention_logs_days: float | None = Field(30, gt=0, description="log files that were set aside, in `logs_dir`")
    logs_dir: Path | None = Field(None, description="folder of the service's own log files, where it keeps them itself")
    retention_interval_s: float = Field(3600, gt=0)
    docs: bool = Field(True, description="serve /docs")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
