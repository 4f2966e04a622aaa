"""What every step needs. Each worker process builds it once."""

import threading
from dataclasses import dataclass, field
from functools import lru_cache

from api.runtime.dispatch import CeleryDispatcher
from api.settings import Settings
from api.store.database import Database, make_engine
from workers.network import Network
from workers.sandboxes.client import SandboxClient

# Set when this process is asked to end. Steps then release their rows at once for another worker.
draining = threading.Event()


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    database: Database
    provider: SandboxClient
    network: Network = field(default_factory=Network)


def make_context(settings: Settings) -> Context:
    return Context(settings, Database(make_engine(settings), CeleryDispatcher(settings)), SandboxClient(settings))


@lru_cache(maxsize=1)
def current_context() -> Context:
    return make_context(Settings())


def close_context() -> None:
    """Close the connections of this process's context, if it has one."""
    if current_context.cache_info().currsize:
        current_context().network.close()
