"""Sandboxes in the shapes of E2B's REST API, made with the e2b package's own models."""

import os
import sys
from datetime import UTC, datetime
from typing import Any

from e2b.api.client.models import ListedSandbox, Sandbox, SandboxDetail, SandboxMetric, SandboxState
from e2b.api.client.models.sandbox_network_config import SandboxNetworkConfig

from workers.sandboxes.host.config import SandboxLimits
from workers.sandboxes.host.envd.wire import VERSION
from workers.sandboxes.host.sandbox_record import SandboxRecord

_CLIENT_ID = "flow-nexus"
_MIB = 1 << 20


def created_body(record: SandboxRecord) -> dict[str, Any]:
    """With the tokens: what creating or connecting answers."""
    return Sandbox(
        template_id=record.template,
        sandbox_id=record.sandbox_id,
        client_id=_CLIENT_ID,
        envd_version=VERSION,
        alias=record.template,
        envd_access_token=record.access_token,
        traffic_access_token=record.traffic_token,
    ).to_dict()


def listed_body(record: SandboxRecord, limits: SandboxLimits) -> dict[str, Any]:
    return ListedSandbox(**_common(record, limits)).to_dict()


def detailed_body(record: SandboxRecord, limits: SandboxLimits) -> dict[str, Any]:
    return SandboxDetail(
        **_common(record, limits),
        envd_access_token=record.access_token,
        allow_internet_access=False,
        network=SandboxNetworkConfig(allow_public_traffic=record.traffic_token is None),
    ).to_dict()


def _common(record: SandboxRecord, limits: SandboxLimits) -> dict[str, Any]:
    return {
        "template_id": record.template,
        "alias": record.template,
        "sandbox_id": record.sandbox_id,
        "client_id": _CLIENT_ID,
        "started_at": record.started_at,
        "end_at": record.end_at,
        "cpu_count": cpu_count(),
        "memory_mb": limits.memory_bytes // _MIB,
        "disk_size_mb": limits.disk_bytes // _MIB,
        "state": SandboxState.RUNNING,
        "envd_version": VERSION,
        "metadata": record.metadata,
    }


def metric_body(measured: dict[str, Any]) -> dict[str, Any]:
    """One measurement; the page cache belongs to the machine, not to a sandbox, and counts 0."""
    now = datetime.now(UTC)
    return SandboxMetric(
        timestamp=now,
        timestamp_unix=int(now.timestamp()),
        cpu_count=measured["cpu_count"],
        cpu_used_pct=measured["cpu_used_pct"],
        mem_used=measured["memory_used_bytes"],
        mem_total=measured["memory_total_bytes"],
        mem_cache=0,
        disk_used=measured["disk_used_bytes"],
        disk_total=measured["disk_total_bytes"],
    ).to_dict()


def cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
