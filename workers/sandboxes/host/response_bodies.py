"""The JSON bodies that the REST API answers with, built with the e2b package's own models."""

import os
import sys
from datetime import UTC, datetime
from typing import TypedDict

from e2b.api.client.models import ListedSandbox, Sandbox, SandboxDetail, SandboxMetric, SandboxState
from e2b.api.client.models.sandbox_network_config import SandboxNetworkConfig

from workers.sandboxes.host.config import SandboxLimits
from workers.sandboxes.host.envd.wire import VERSION, UsageReport
from workers.sandboxes.host.sandbox_record import SandboxRecord

_CLIENT_ID = "flow-nexus"
_MIB = 1 << 20
Body = dict[str, object]


class _CommonFields(TypedDict):
    """The fields that a listed sandbox and a described one share."""

    template_id: str
    alias: str
    sandbox_id: str
    client_id: str
    started_at: datetime
    end_at: datetime
    cpu_count: int
    memory_mb: int
    disk_size_mb: int
    state: SandboxState
    envd_version: str
    metadata: dict[str, str]


def created_body(record: SandboxRecord) -> Body:
    """Return the answer to a creation or a connection. It contains the tokens."""
    return Sandbox(
        template_id=record.template,
        sandbox_id=record.sandbox_id,
        client_id=_CLIENT_ID,
        envd_version=VERSION,
        alias=record.template,
        envd_access_token=record.access_token,
        traffic_access_token=record.traffic_token,
    ).to_dict()


def listed_body(record: SandboxRecord, limits: SandboxLimits) -> Body:
    return ListedSandbox(**_common_fields(record, limits)).to_dict()


def detailed_body(record: SandboxRecord, limits: SandboxLimits) -> Body:
    return SandboxDetail(
        **_common_fields(record, limits),
        envd_access_token=record.access_token,
        allow_internet_access=False,
        network=SandboxNetworkConfig(allow_public_traffic=record.traffic_token is None),
    ).to_dict()


def metric_body(usage: UsageReport, memory_used_bytes: int) -> Body:
    """Return one measurement. The page cache belongs to the machine, so it counts 0 here."""
    now = datetime.now(UTC)
    return SandboxMetric(
        timestamp=now,
        timestamp_unix=int(now.timestamp()),
        cpu_count=usage.cpu_count,
        cpu_used_pct=usage.cpu_used_pct or 0.0,
        mem_used=memory_used_bytes,
        mem_total=usage.memory_total_bytes,
        mem_cache=0,
        disk_used=usage.disk_used_bytes,
        disk_total=usage.disk_total_bytes,
    ).to_dict()


def _common_fields(record: SandboxRecord, limits: SandboxLimits) -> _CommonFields:
    return {
        "template_id": record.template,
        "alias": record.template,
        "sandbox_id": record.sandbox_id,
        "client_id": _CLIENT_ID,
        "started_at": record.started_at,
        "end_at": record.end_at,
        "cpu_count": _cpu_count(),
        "memory_mb": limits.memory_bytes // _MIB,
        "disk_size_mb": limits.disk_bytes // _MIB,
        "state": SandboxState.RUNNING,
        "envd_version": VERSION,
        "metadata": record.metadata,
    }


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
