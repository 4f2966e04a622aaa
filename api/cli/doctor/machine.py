"""Checks of the settings, of this machine and of Redis."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import redis
from pydantic import BaseModel

from api.cli.doctor.findings import Finding, failed, note, ok
from api.settings import Settings

_TIMEOUT_S: Final = 3.0
_LEAST_FREE: Final = 1_000_000_000
_FEW_FREE: Final = 10_000_000_000
_FEWEST_CHARACTERS: Final = 12
_NEW_KEY: Final = "set FLOW_NEXUS_SECRET_KEY to 48 random characters: `openssl rand -base64 36`"
_PACKAGES: Final = ("flow-nexus", "e2b", "sqlalchemy", "celery")


class _RedisInfo(BaseModel):
    """Part of the answer to INFO. A managed server may leave some of it out."""

    redis_version: str = "of an unknown version"
    role: str | None = None
    redis_mode: str | None = None
    maxmemory: int = 0
    maxmemory_policy: str | None = None


def versions() -> Finding:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return ok("versions", f"Python {sys.version.split()[0]}, {packages}")


def secret_key(settings: Settings) -> Finding:
    """A key that a person has typed can be guessed. Nothing of the key is told."""
    key = settings.secret_key.get_secret_value()
    if len(set(key)) < _FEWEST_CHARACTERS:
        return failed("secret key", "it has too few different characters, so it can be guessed", _NEW_KEY)
    return ok("secret key", "long enough")


def folders(settings: Settings) -> Iterator[Finding]:
    """Check that the folder of models can be written and has room. A worker creates it."""
    folder, correct = settings.models_dir, "correct FLOW_NEXUS_MODELS_DIR"
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        yield failed("models", f"{existing} is a file", f"create a folder, and {correct}")
        return
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield failed("models", f"{folder} cannot be written: {error.strerror}", f"give this user the folder, or {correct}")
        return
    yield ok("models", f"{folder} can be written")
    yield _disk(existing)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free in {folder}"
    remedy = "make room, or set FLOW_NEXUS_RETENTION_MODELS_DAYS"
    if free < _LEAST_FREE:
        return failed("disk", detail, remedy)
    return note("disk", detail, remedy) if free < _FEW_FREE else ok("disk", detail)


def broker(settings: Settings) -> Finding:
    """Check Redis. It holds messages only, and none may be evicted."""
    try:
        client = redis.Redis.from_url(settings.redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        with client:
            info = _RedisInfo.model_validate(client.info())
    except redis.AuthenticationError:
        return failed("redis", f"{_address(settings)} refuses the password", "correct FLOW_NEXUS_REDIS_URL")
    except (redis.RedisError, OSError):
        remedy = "start Redis, or correct FLOW_NEXUS_REDIS_URL"
        return failed("redis", f"{_address(settings)} does not answer", remedy)
    except ValueError:
        return failed("redis", "the URL cannot be used", "FLOW_NEXUS_REDIS_URL must look like redis://:password@host:6379/0")
    return _broker(info)


def _broker(info: _RedisInfo) -> Finding:
    title = f"Redis {info.redis_version}"
    if info.role == "slave":
        return failed("redis", f"{title} is a read-only replica", "name the primary server in FLOW_NEXUS_REDIS_URL")
    if info.redis_mode == "cluster":
        return failed("redis", f"{title} is a Redis cluster, which Celery cannot use", "use a Redis without cluster mode")
    if info.maxmemory and info.maxmemory_policy != "noeviction":
        return note("redis", f"{title} drops messages when it is full", "set maxmemory-policy to noeviction")
    return ok("redis", title)


def _address(settings: Settings) -> str:
    parts = urlsplit(settings.redis_url)
    return f"{parts.hostname or 'Redis'}:{parts.port or 6379}"
