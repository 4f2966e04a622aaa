"""Uploads to a sandbox and downloads from it."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.api.cli.fake_api import ApiRequest, FakeApi, run, tar

UPLOAD = ("sandbox", "upload", "--sandbox-id", "sbx_1", "--file-path", "/data/train_1.json")
FILES = "/v1/sandboxes/sbx_1/files"


def stores(request: ApiRequest) -> dict[str, Any]:
    """Return the API's answer to an upload."""
    return {"path": request.query["path"], "size": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}


@pytest.fixture
def store(api: FakeApi) -> FakeApi:
    api.answers[f"PUT {FILES}"] = stores
    return api


def sent(api: FakeApi, *words: str) -> bytes:
    assert run(*UPLOAD, *words) == 0
    assert (api.last.method, api.last.path, api.last.query) == ("PUT", FILES, {"path": "/data/train_1.json"})
    return api.last.body


def test_content_is_the_text_itself_byte_by_byte(store: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    text = '[{"text": "ünïcode ☕", "sentiment": "x"}]\n'
    assert sent(store, "--content", text) == text.encode()
    assert store.last.headers["content-length"] == str(len(text.encode()))
    assert json.loads(capsys.readouterr().out)["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert sent(store, "--content", "") == b""
    assert sent(store, "--content", "bytes \udcff of the shell") == b"bytes \xff of the shell"


def test_content_may_come_from_a_file_however_large(store: FakeApi, empty_folder: Path) -> None:
    large = bytes(range(256)) * 4096
    (empty_folder / "x.bin").write_bytes(large)
    assert sent(store, "--content", "@x.bin") == large
    assert sent(store, "--file", "x.bin") == large
    assert store.last.headers["content-length"] == str(len(large))
    (empty_folder / "-").write_bytes(b"dash")
    assert sent(store, "--file", "-") == b"dash"


def test_content_may_come_from_a_pipe(store: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"from a pipe" * 100_000)

    monkeypatch.setattr("sys.stdin", Stdin())
    assert sent(store, "--content", "-") == b"from a pipe" * 100_000
    assert "content-length" not in store.last.headers


def test_an_upload_that_arrived_otherwise_is_an_error(store: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    store.answers[f"PUT {FILES}"] = lambda request: {**stores(request), "size": 3}
    assert run(*UPLOAD, "--content", "four") == 1
    assert "did not arrive as it was sent" in capsys.readouterr().err


def fetch(local: str, *words: str, remote: str = "/export/model_v1.0") -> int:
    return run("sandbox", "download", "--sandbox-id", "sbx_1", "--remote-path", remote, "--local-path", local, *words)


def as_tar(content: bytes, length: int | None = None) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": "application/x-tar"}
    return 200, headers if length is None else {**headers, "Content-Length": str(length)}, content


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_written_where_it_is_wanted(api: FakeApi, empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers[f"GET {FILES}"] = b"content"
    assert fetch("new/folder/name.txt", remote="/data/x.txt") == 0
    assert api.last.query == {"path": "/data/x.txt"}
    assert json.loads(capsys.readouterr().out)["sha256"] == hashlib.sha256(b"content").hexdigest()
    (empty_folder / "there").mkdir()
    assert fetch("there", remote="/data/x.txt") == 0
    assert tree(empty_folder) == {"new/folder/name.txt": b"content", "there/x.txt": b"content"}


def test_a_folder_comes_as_it_is(api: FakeApi, empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = (("model_v1.0", None), ("model_v1.0/config.json", b"{}"), ("model_v1.0/sub", None), ("model_v1.0/sub/x", b"x"))
    api.answers[f"GET {FILES}"] = as_tar(tar(*members))
    assert fetch("production/model") == 0
    assert tree(empty_folder / "production/model") == {"config.json": b"{}", "sub/x": b"x"}
    answer = json.loads(capsys.readouterr().out)
    assert (answer["files"], answer["size"], answer["links_left_out"]) == (2, 3, 0)
    assert fetch("production/model") == 2, "it is not empty"
    api.answers[f"GET {FILES}"] = as_tar(tar(("model_v1.0/other", b"o")))
    assert fetch("production/model", "--overwrite") == 0
    assert tree(empty_folder / "production/model") == {"other": b"o"}
    assert [path.name for path in (empty_folder / "production").iterdir()] == ["model"]


@pytest.mark.parametrize(
    "name", ["../evil", "model_v1.0/../../evil", "model_v1.0/../../../../tmp/evil", "/evil", "/tmp/evil", "//evil"]
)
def test_a_name_that_leads_outside_is_refused_and_nothing_is_written(
    api: FakeApi, empty_folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    api.answers[f"GET {FILES}"] = as_tar(tar(("model_v1.0/good", b"good"), (name, b"evil")))
    assert fetch("model") == 1
    assert "the archive is not usable" in capsys.readouterr().err
    assert list(empty_folder.iterdir()) == []
    assert not list(empty_folder.parent.glob("**/evil"))
    assert not Path("/tmp/evil").exists()


def linked(entry_type: bytes, target: str) -> bytes:
    archive_bytes = io.BytesIO()
    with tarfile.open(fileobj=archive_bytes, mode="w") as archive:
        link = tarfile.TarInfo("model_v1.0/link")
        link.type, link.linkname = entry_type, target
        archive.addfile(link)
        through = tarfile.TarInfo("model_v1.0/link/evil")
        through.size = 4
        archive.addfile(through, io.BytesIO(b"evil"))
    return archive_bytes.getvalue()


@pytest.mark.parametrize("entry_type", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["..", "../..", "/tmp", "/etc/passwd", "good"])
def test_no_link_is_made_and_none_is_followed(api: FakeApi, empty_folder: Path, entry_type: bytes, target: str) -> None:
    api.answers[f"GET {FILES}"] = as_tar(linked(entry_type, target))
    assert fetch("model") == 0
    assert tree(empty_folder / "model") == {"link/evil": b"evil"}, "an ordinary folder"
    assert not (empty_folder / "model/link").is_symlink()
    assert not Path("/tmp/evil").exists()
    assert not (empty_folder / "evil").exists()


@pytest.mark.parametrize("entry_type", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(api: FakeApi, empty_folder: Path, entry_type: bytes) -> None:
    archive_bytes = io.BytesIO()
    with tarfile.open(fileobj=archive_bytes, mode="w") as archive:
        device = tarfile.TarInfo("model_v1.0/device")
        device.type = entry_type
        archive.addfile(device)
    api.answers[f"GET {FILES}"] = as_tar(archive_bytes.getvalue())
    assert fetch("model") == 1
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_transfer_that_breaks_off_leaves_what_was_there(api: FakeApi, empty_folder: Path, overwrite: tuple[str, ...]) -> None:
    whole = tar(("model_v1.0/good", b"good" * 10_000))
    if overwrite:
        (empty_folder / "model").mkdir()
        (empty_folder / "model/old").write_bytes(b"old")
    before = tree(empty_folder)
    for cut in (as_tar(whole[:5000], len(whole)), as_tar(whole[:5000]), as_tar(b"no archive at all" * 100)):
        api.answers[f"GET {FILES}"] = cut
        assert fetch("model", *overwrite) == 1
        assert tree(empty_folder) == before
    api.answers[f"GET {FILES}"] = (200, {"Content-Type": "application/octet-stream", "Content-Length": "99"}, b"short")
    assert fetch("file.bin") == 1
    assert tree(empty_folder) == before


def test_a_model_is_downloaded_under_its_name(api: FakeApi, empty_folder: Path) -> None:
    api.answers["GET /v1/models/mdl_1"] = {"model_id": "mdl_1", "name": "feedback_v1"}
    api.answers["GET /v1/models/mdl_1/download"] = as_tar(tar(("feedback_v1/config.json", b"{}")))
    assert run("neural", "models", "download", "--model-id", "mdl_1") == 0
    assert tree(empty_folder) == {"feedback_v1/config.json": b"{}"}
    api.answers["GET /v1/models/mdl_1"] = {"model_id": "mdl_1", "name": ".."}
    assert run("neural", "models", "download", "--model-id", "mdl_1") == 1
    assert tree(empty_folder) == {"feedback_v1/config.json": b"{}"}
