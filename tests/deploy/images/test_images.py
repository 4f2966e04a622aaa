"""The images keep the rules: locked packages, a base with a digest, no root, a health check."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.deploy.tools import ROOT, tool

FOLDER = ROOT / "deploy/images"
FILES = sorted(FOLDER.glob("*.Dockerfile"))
# The stages that are images, by file.
IMAGES = {"control.Dockerfile": {"api", "worker"}, "sandbox-host.Dockerfile": {"sandbox-host"}}
# The user of the pods in the chart.
USER = "10001:10001"
DIGEST = re.compile(r"^[^@\s]+@sha256:[0-9a-f]{64}$")


def instructions(file: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line.strip()]


def stages(file: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage, with those of the stages that it begins from."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions(file):
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            found[stage] = list(found.get(base, []))
        elif found:
            found[list(found)[-1]].append((name, rest))
    return found


def command_of(image: str) -> list[str]:
    """Return the words with which an image starts."""
    file = next(FOLDER / name for name, names in IMAGES.items() if image in names)
    (words,) = [json.loads(rest) for name, rest in stages(file)[image] if name == "CMD"]
    return [str(word) for word in words]


def test_every_file_is_known() -> None:
    assert {file.name for file in FILES} == set(IMAGES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    done = subprocess.run([tool("hadolint"), "--no-color", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_bases_come_from_the_build(file: Path) -> None:
    known = {"${PYTHON_BASE}", "scratch"}
    for name, rest in instructions(file):
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            assert base in known
            known.add(stage)
    # It has no default: whoever builds chooses the digest.
    assert ("ARG", "PYTHON_BASE") in instructions(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_packages_are_locked(file: Path) -> None:
    text = " ".join(rest for name, rest in instructions(file) if name == "RUN")
    installs = re.findall(r"pip(?: --python \S+)? install ([^&]*)", text)
    assert installs
    for options in installs:
        assert "--no-deps" in options
        # torch has other files on each platform, and the wheel was built in the line before.
        assert "--require-hashes" in options or "-r lock/torch.txt" in options or options.strip().endswith("/wheels/*.whl")


@pytest.mark.parametrize("image", ["api", "worker", "sandbox-host"])
def test_an_image_has_no_root_a_health_check_and_labels(image: str) -> None:
    file = next(FOLDER / name for name, names in IMAGES.items() if image in names)
    found = stages(file)[image]
    assert [rest for name, rest in found if name == "USER"] == [USER]
    assert sum(name == "HEALTHCHECK" for name, _ in found) == 1
    labels = " ".join(rest for name, rest in found if name == "LABEL")
    assert set(re.findall(r"opencontainers\.image\.(\w+)=", labels)) == {
        "title",
        "description",
        "licenses",
        "version",
        "revision",
    }
    # Python looks for modules in the current folder first.
    assert [rest for name, rest in found if name == "WORKDIR"] == ["/opt/flow-nexus"]


def test_the_control_plane_has_no_torch() -> None:
    assert "torch" not in " ".join(rest for _, rest in instructions(FOLDER / "control.Dockerfile"))
    assert re.search(r"^torch==", (ROOT / "lock/api.txt").read_text(), re.MULTILINE) is None


def test_the_sandbox_host_has_what_agents_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[^\w-]", need)[0] for need in project["optional-dependencies"]["sandbox"]]
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "lock/sandbox-host.txt").read_text(), re.MULTILINE))
    assert {name.lower() for name in names} - locked == {"torch"}
    # The control plane's copies of the same packages have the same versions.
    pins = [
        set(re.findall(r"^[\w.-]+==[^ ;]+", (ROOT / f"lock/{name}.txt").read_text(), re.MULTILINE)) for name in ("api", "all")
    ]
    mine = set(re.findall(r"^[\w.-]+==[^ ;]+", (ROOT / "lock/sandbox-host.txt").read_text(), re.MULTILINE))
    assert mine <= pins[1]
    assert pins[0] <= mine


def test_what_is_copied_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for file in FILES:
        for name, rest in instructions(file):
            if name == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    assert Path(source).parts[0] in sent
                    assert (ROOT / source).exists()


def test_bases_are_empty_or_have_a_digest() -> None:
    bases = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / "bases.env").read_text(), re.MULTILINE))
    assert "PYTHON_BASE" in bases
    assert [value for value in bases.values() if value and not DIGEST.match(value)] == []


@pytest.mark.parametrize("base", ["python:3.11-slim", "python@sha256:abc"])
def test_a_base_without_a_digest_is_refused(base: str) -> None:
    environment = {**os.environ, "PYTHON_BASE": base, "BUILDER": "false"}
    done = subprocess.run([FOLDER / "build.sh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PYTHON_BASE must have a digest" in done.stderr
