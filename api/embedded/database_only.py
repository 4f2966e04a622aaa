"""The Postgres of an embedded stack alone, while its other parts do not run."""

from collections.abc import Iterator
from contextlib import contextmanager

from api.embedded import environment, postgres
from api.embedded.state_folder import StateFolder
from api.embedded.supervisor import Supervisor


@contextmanager
def running_database(folder: StateFolder) -> Iterator[str]:
    """Yield the SQLAlchemy URL of the folder's Postgres. A new folder gets a new one.

    Raises:
        StackError: A stack runs on this folder, or Postgres cannot start.
    """
    with folder.locked(_never) as lock, folder.socket_folder() as sockets:
        supervisor = Supervisor(_silent, lock, _never)
        try:
            supervisor.start(postgres.prepare(folder, sockets, environment.plain(), _silent))
            yield postgres.url(sockets)
        finally:
            supervisor.stop()


def _silent(_: str) -> None:
    return


def _never() -> bool:
    return False
