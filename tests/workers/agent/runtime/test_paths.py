import sys
from pathlib import Path

import pytest

from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    (tmp_path / "sandbox/data").mkdir(parents=True)
    (tmp_path / "sandbox/data/a.json").write_text("[]")
    (tmp_path / "sandbox/data/b.json").write_text("[]")
    (tmp_path / "secret.json").write_text("[]")
    return SandboxRoot(tmp_path / "sandbox")


def refusal(root: SandboxRoot, path: str) -> str:
    with pytest.raises(AgentError) as caught:
        root.files(path)
    assert "secret" not in caught.value.message
    return caught.value.code


@pytest.mark.parametrize(
    "path",
    ["", "/", "data/a.json", "../secret.json", "/../secret.json", "/data/../../secret.json", "/data/*/../../x", "/a\0b", "\0"],
)
def test_a_path_that_is_not_absolute_or_climbs_is_refused(root: SandboxRoot, path: str) -> None:
    assert refusal(root, path) == "path_not_allowed"
    with pytest.raises(AgentError):
        root.resolve(path)


def test_a_glob_names_regular_files_in_order(root: SandboxRoot) -> None:
    (root.folder / "data/c.json").mkdir()
    assert [root.shown(path) for path in root.files("/data/*.json")] == ["/data/a.json", "/data/b.json"]
    assert [path.name for path in root.files("//data//a.json")] == ["a.json"]
    assert root.files("/data/nothing.json") == []
    assert root.files("/data") == []


def test_links_that_lead_outside_are_not_followed(root: SandboxRoot) -> None:
    (root.folder / "data/link.json").symlink_to(root.folder.parent / "secret.json")
    (root.folder / "out").symlink_to(root.folder.parent)
    assert refusal(root, "/data/link.json") == "path_not_allowed"
    assert refusal(root, "/out/secret.json") == "path_not_allowed"
    assert [path.name for path in root.files("/data/*.json")] == ["a.json", "b.json"]
    assert root.files("/*/secret.json") == []


def test_links_within_the_sandbox_are_followed(root: SandboxRoot) -> None:
    (root.folder / "train.json").symlink_to("data/a.json")
    assert root.files("/train.json") == [root.folder / "data/a.json"]


def test_links_in_a_circle_name_no_file(root: SandboxRoot) -> None:
    (root.folder / "data/x.json").symlink_to("y.json")
    (root.folder / "data/y.json").symlink_to("x.json")
    assert [path.name for path in root.files("/data/*.json")] == ["a.json", "b.json"]
    assert root.files("/data/x.json") == []


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "/" + "x" * 5000 + "*", "/data/[", "/nowhere/**/a.json"])
def test_a_pattern_that_no_file_can_match_names_no_file(root: SandboxRoot, path: str) -> None:
    assert root.files(path) == []


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="later Pythons take it for a single star")
def test_a_double_star_within_a_name_is_refused(root: SandboxRoot) -> None:
    assert refusal(root, "/data/a**.json") == "path_not_allowed"
