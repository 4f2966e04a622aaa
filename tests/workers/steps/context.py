"""A worker's context on a test's database.

Nothing listens at the addresses of its broker and its provider.
"""

from pathlib import Path
from typing import Any

from api.settings import Settings
from api.store.database import Database
from workers.context import Context
from workers.network import Network
from workers.sandboxes.client import SandboxClient

# One for all tests of a process, as in a Celery worker.
_NETWORK = Network()


def make_context(database: Database, folder: Path, **fields: Any) -> Context:
    settings = Settings(
        **{
            "database_url": "postgresql+psycopg://unused",
            "redis_url": "redis://127.0.0.1:9/0",
            "secret_key": "s" * 32,
            "models_dir": folder,
            "E2B_API_KEY": "e2b_0",
            "E2B_API_URL": "http://127.0.0.1:9",
            "E2B_SANDBOX_URL": "http://127.0.0.1:9",
            **fields,
        }
    )
    return Context(settings, database, SandboxClient(settings), _NETWORK)
