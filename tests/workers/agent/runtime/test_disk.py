import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from workers.agent.runtime import disk

MIB = 2**20


class Usage(NamedTuple):
    free: int


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of a sandbox under namespaces: its root is a file system of 1 MiB."""
    (tmp_path / "data").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(MIB if path == tmp_path else 5000 * MIB))
    monkeypatch.delenv(disk.LIMIT_VARIABLE, raising=False)
    return tmp_path


def test_the_file_system_of_the_folders_counts_and_not_that_of_the_root(sandbox: Path) -> None:
    assert disk.left(sandbox) == 5000 * MIB


def test_what_the_folders_hold_counts_into_the_limit(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sandbox / "data" / "file").write_bytes(b"x" * 3 * MIB)
    monkeypatch.setenv(disk.LIMIT_VARIABLE, str(100 * MIB))
    assert disk.left(sandbox) == pytest.approx(97 * MIB, abs=MIB / 10)
