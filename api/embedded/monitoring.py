"""The metrics of an embedded stack: what their settings are, and where Prometheus finds them."""

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from api.embedded.errors import StackError
from api.embedded.state_folder import StateFolder, listen_error

_API_PORT, _WORKER_PORT = "FLOW_NEXUS_METRICS_PORT", "FLOW_NEXUS_WORKER_METRICS_PORT"
_HOST, _PER_TRAINING = "FLOW_NEXUS_METRICS_HOST", "FLOW_NEXUS_METRICS_PER_TRAINING"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - the user chooses the address
_UNSET = "null"
_LARGEST_PORT = 65_535


def settings(folder: StateFolder, host: str, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the caller has not chosen.

    The Celery worker has a free port on loopback. Where the API listens on loopback too, `/metrics`
    shows active trainings.

    Raises:
        StackError: no process can listen on a port that the caller has chosen.
    """
    for name in (_API_PORT, _WORKER_PORT):
        _check(name, chosen)
    found = {}
    if _WORKER_PORT not in chosen:
        found[_WORKER_PORT] = str(folder.port("worker-metrics"))
    if _PER_TRAINING not in chosen and host in _LOOPBACK:
        found[_PER_TRAINING] = "true"
    return found


def _check(name: str, chosen: Mapping[str, str]) -> None:
    host, port = chosen.get(_HOST, "127.0.0.1"), chosen.get(name, _UNSET)
    if port == _UNSET:
        return
    if not port.isdecimal() or not 1 <= int(port) <= _LARGEST_PORT:
        raise StackError(f"{name} must be from 1 to {_LARGEST_PORT}, or null")
    if reason := listen_error(host, int(port)):
        raise StackError(f"{name}: no process can listen on {host} port {port}: {reason}")


def write_targets(folder: StateFolder, url: str, used: Mapping[str, str]) -> None:
    """Write `prometheus.json`, a list of targets that Prometheus reads (`file_sd_configs`)."""
    host = used.get(_HOST, "127.0.0.1")
    host = _ANY_ADDRESS.get(host, host)
    host = f"[{host}]" if ":" in host else host
    api_port, worker_port = used.get(_API_PORT, _UNSET), used.get(_WORKER_PORT, _UNSET)
    targets = {"flow-nexus-api": urlsplit(url).netloc if api_port == _UNSET else f"{host}:{api_port}"}
    if worker_port != _UNSET:
        targets["flow-nexus-worker"] = f"{host}:{worker_port}"
    listed = [{"targets": [address], "labels": {"job": job}} for job, address in targets.items()]
    folder.write_private("prometheus.json", json.dumps(listed, indent=2) + "\n")
