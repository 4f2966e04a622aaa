"""What every step needs, made once per worker process."""

import logging
import threading
from dataclasses import dataclass
from functools import lru_cache

from api.runtime.dispatch import CeleryDispatcher
from api.settings import Settings
from api.store.database import Database, make_engine
from workers.sandboxes.client import SandboxClient

# Set when this process is asked to end: steps then give their rows back at once, for another worker to go on with.
draining = threading.Event()


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    database: Database
    provider: SandboxClient


def make_context(settings: Settings) -> Context:
    return Context(settings, Database(make_engine(settings), CeleryDispatcher(settings)), SandboxClient(settings))


@lru_cache(maxsize=1)
def current() -> Context:
    settings = Settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return make_context(settings)
