"""The state folder of a stack."""

import fcntl
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from api.embedded.errors import StackError
from api.embedded.state_folder import StateFolder, listen_error


def never() -> bool:
    return False


@pytest.mark.parametrize("name", ["with space", "comma,comma", "x" * 120, "ümlaut", "quote'"])
def test_sockets_get_a_short_plain_folder(tmp_path: Path, name: str) -> None:
    state = StateFolder(tmp_path / name)
    with state.locked(never), state.socket_folder() as folder:
        assert len(os.fsencode(folder)) <= 80
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / ".s.PGSQL.5432"))
    assert not folder.exists()


def test_sockets_that_a_killed_stack_left_are_removed(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with state.locked(never), state.socket_folder() as folder:
        place = folder
    place.mkdir()
    (place / "stale").touch()
    with state.socket_folder() as folder:
        assert not list(folder.iterdir())


def test_a_symbolic_link_is_not_used_for_sockets(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / ("x" * 120))
    with state.locked(never), state.socket_folder() as folder:
        place = folder
    place.symlink_to(tmp_path)
    try:
        with pytest.raises(StackError, match="cannot be used for sockets"), state.socket_folder():
            pass
    finally:
        place.unlink()


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    first = state.secrets()
    assert StateFolder(tmp_path).secrets() == first
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o600
    assert StateFolder(tmp_path / "..").path != state.path
    assert len({first.secret_key, first.api_key, first.sandbox_key, first.redis_password}) == 4


def test_ports_are_remembered_while_they_are_free(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    port = state.port("redis")
    assert state.port("redis") == port
    with socket.create_server(("127.0.0.1", port)):
        assert listen_error("127.0.0.1", port) == "Address already in use"
        assert state.port("redis") != port


def test_the_folder_of_a_living_stack_is_refused_at_once(tmp_path: Path) -> None:
    with (
        StateFolder(tmp_path).locked(never),
        pytest.raises(StackError, match="already runs"),
        StateFolder(tmp_path).locked(never),
    ):
        pass


def test_the_folder_of_a_killed_stack_is_taken_when_its_parts_are_gone(tmp_path: Path) -> None:
    """The process of its supervisor has ended, but a child holds the inherited lock."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with (tmp_path / "lock").open("w") as inherited:
        inherited.write(str(pid))
        inherited.flush()
        fcntl.flock(inherited, fcntl.LOCK_EX)
        timer = threading.Timer(0.3, fcntl.flock, (inherited, fcntl.LOCK_UN))
        timer.start()
        with StateFolder(tmp_path).locked(never):
            assert timer.finished.is_set()
            assert (tmp_path / "lock").read_text() == str(os.getpid())
        timer.join()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be used"), StateFolder(tmp_path / "file" / "home").locked(never):
        pass
