"""An export that a user has made up is refused, in bounded memory and time."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage.exports import ExportFolder, opened
from workers.agent.storage.tar_files import extract

LIMITS = {"config.json": 1000, "model.safetensors": 10_000}


def member(name: str, content: bytes = b"{}", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.type, header.linkname = len(content), kind, link
    return header.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512)


def made(folder: Path, *members: bytes, end: bytes = b"\0" * 1024) -> Path:
    path = folder / "made.tar"
    path.write_bytes(b"".join(members) + end)
    return path


def taken(folder: Path, tar: Path) -> dict[str, bytes]:
    target = folder / "target"
    target.mkdir()
    extract(tar, LIMITS, target)
    return {path.name: path.read_bytes() for path in target.iterdir()}


def test_known_files_are_taken_from_the_top_or_from_one_folder(tmp_path: Path) -> None:
    long = f"{'x' * 90}/model.safetensors"
    assert len(long) > 100, "its name needs a member of its own"
    tar = made(
        tmp_path,
        member("x", b"", tarfile.DIRTYPE),
        member("x/config.json", b"{1}"),
        member("x/README.md", b"text" * 1000),
        member("x/deeper/down/config.json", b"other"),
        member(long, b"weights"),
    )
    assert taken(tmp_path, tar) == {"config.json": b"{1}", "model.safetensors": b"weights"}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([member("x/config.json", b"", tarfile.SYMTYPE, "/etc/passwd")], "not a file or a folder"),
        ([member("x/config.json", b"", tarfile.LNKTYPE, "/etc/passwd")], "not a file or a folder"),
        ([member("x/config.json", b"", tarfile.FIFOTYPE)], "not a file or a folder"),
        ([member("pax", b"x" * 99_999, tarfile.XHDTYPE)], "not a file or a folder"),
        ([member("pax", b"21 path=x/config.json\n", tarfile.XHDTYPE)], "has a name or a size"),
        ([member("long", b"x" * 9999, tarfile.GNUTYPE_LONGNAME)], "not a file or a folder"),
        ([member("../config.json")], "leads out of the folder"),
        ([member("/config.json")], "leads out of the folder"),
        ([member("x/config.json"), member("y/config.json")], "config.json twice"),
        ([member("x/config.json", b"x" * 1001)], "more than 1000 bytes"),
        ([member("x", b"")] * 1001, "more than 1000 members"),
        ([b"no tar at all" * 100], "not a tar"),
    ],
)
def test_a_made_up_tar_is_refused(tmp_path: Path, members: list[bytes], reason: str) -> None:
    with pytest.raises(AgentError, match=reason) as caught:
        taken(tmp_path, made(tmp_path, *members))
    assert caught.value.code == "bad_export"


@pytest.mark.parametrize("length", [0, 100, 512, 515, 1024])
def test_a_tar_that_was_cut_is_refused(tmp_path: Path, length: int) -> None:
    tar = made(tmp_path, member("x/config.json", b"x" * 600), end=b"")
    os.truncate(tar, length)
    with pytest.raises(AgentError, match=r"it ends|not a tar"):
        taken(tmp_path, tar)


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x/config.json"))
    path = tmp_path / "made.tar"
    path.write_bytes(packed.getvalue() + b"\0" * 512)
    with pytest.raises(AgentError, match="not a tar"):
        taken(tmp_path, path)


def test_a_huge_header_of_the_weights_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(AgentError, match="not a safetensors file"):
        ExportFolder(tmp_path).shapes()


@pytest.mark.parametrize(
    "config",
    [
        "[]", "{", "[" * 100_000, '{"id2label": {"0": "a"}}', '{"id2label": {"0": "a", "1": "a"}}',
        '{"id2label": {"0": "a", "2": "b"}}', '{"id2label": {"0": "a", "1": 7}}', '{"id2label": {"0": "a", "1": "\\u0000"}}',
        '{"id2label": {"0": "a", "1": "\\ud800"}}', '{"id2label": "ab"}',
    ],
)  # fmt: skip
def test_a_config_without_usable_classes_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(AgentError) as caught:
        ExportFolder(tmp_path).labels()
    assert caught.value.code == "bad_export"


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    os.mkfifo(tmp_path / "model.safetensors")
    assert ExportFolder(tmp_path).read("config.json") is None
    with pytest.raises(AgentError, match=r"it has no model\.safetensors"):
        ExportFolder(tmp_path).shapes()


def test_a_path_out_of_the_sandbox_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/usr")
    with pytest.raises(AgentError) as caught, opened(SandboxRoot(tmp_path), "/out/lib"):
        pass
    assert caught.value.code == "path_not_allowed"
