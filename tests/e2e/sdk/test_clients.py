"""Generated clients are whole and strictly typed. They run the walkthrough on the real stack."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from api.embedded.stack import EmbeddedStack

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "build/sdk"
# Of Debian's libgeronimo-annotation-1.3-spec-java.
ANNOTATIONS = Path("/usr/share/java/geronimo-annotation-1.3-spec.jar")
GENERATOR = "venv/bin/openapi-generator-cli"
HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
WARNING = ("warning", "error")
# Debian's packages of Go libraries install here. Go has the library `validator.v2` from there.
GO_LIBRARIES = Path(os.environ.get("GOPATH", "/usr/share/gocode"))
EXPECTED = {
    "edges": 2,
    "training": "completed",
    "epoch": 2,
    "rounds": [1, 2],
    "sessions": 1,
    "sentiments": ["positive"],
    "cluster": "terminated",
}


pytestmark = pytest.mark.timeout(400)


def tool(*names: str) -> None:
    """Skip the test if a tool is missing, unless FLOW_NEXUS_SDK is `required` or `all`."""
    missing = [name for name in names if not (TOOLS / name).exists() and shutil.which(name) is None]
    if missing:
        assert not os.environ.get("FLOW_NEXUS_SDK"), f"missing: {missing}"
        pytest.skip(f"`make sdk` installs {', '.join(missing)}")


def optional(*names: str, files: dict[str, Path]) -> None:
    """Skip the test outside `make sdk`, and where a tool or a file of a package is missing."""
    if os.environ.get("FLOW_NEXUS_SDK") != "all":
        pytest.skip("`make sdk` runs it")
    wanted = {**files, "openapi-generator-cli": TOOLS / GENERATOR}
    missing = [name for name in names if shutil.which(name) is None]
    missing += [package for package, file in wanted.items() if not file.exists()]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Return what a command prints.

    Raises:
        AssertionError: with the output of a command that failed.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def openapi_generator(language: str, output: str | Path, *options: str, cwd: Path) -> None:
    """Generate a client of a language without its tests and pages."""
    parts = "--global-property=apiTests=false,modelTests=false,apiDocs=false,modelDocs=false"
    run(TOOLS / GENERATOR, "generate", "-i", ROOT / "openapi.json", "-g", language, "-o", output, parts, *options, cwd=cwd)


def warnings(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if any(word in line.lower() for word in WARNING)]


def result(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return found


def documented(language: str) -> str:
    """Return the program of `docs/sdk.md` in this language."""
    (program,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/sdk.md").read_text(), re.DOTALL)
    return str(program)


def made_a_cluster(printed: str) -> bool:
    return re.fullmatch(r"cls_\w+", printed.strip()) is not None


def address(stack: EmbeddedStack) -> dict[str, str]:
    return {"FLOW_NEXUS_URL": stack.url, "FLOW_NEXUS_API_KEY": stack.api_key}


@pytest.mark.parametrize(
    ("linter", "arguments"),
    [
        ("spectral", ("lint", "--fail-severity", "warn", "--ruleset", HERE / "spectral.yaml")),
        ("redocly", ("lint", "--max-problems", "0", "--config", HERE / "redocly.yaml")),
    ],
)
def test_linters_have_nothing_to_say(tmp_path: Path, linter: str, arguments: tuple[str | Path, ...]) -> None:
    tool("node", f"js/node_modules/.bin/{linter}")
    printed = run(TOOLS / "js/node_modules/.bin" / linter, *arguments, ROOT / "openapi.json", cwd=tmp_path)
    assert re.search(r"No results with a severity|Your API description is valid", printed), printed
    assert re.search(r"You have \d+ (warning|error)", printed) is None, printed


def test_python(stack: EmbeddedStack, tmp_path: Path) -> None:
    tool("venv/bin/openapi-python-client")
    binaries = TOOLS / "venv/bin"
    generate = ("generate", "--path", ROOT / "openapi.json", "--meta", "none", "--output-path", "flow_nexus")
    path = f"{binaries}:{os.environ['PATH']}"
    printed = run(binaries / "openapi-python-client", *generate, cwd=tmp_path, PATH=path)
    assert warnings(printed.splitlines()) == []
    shutil.copy(PROGRAMS / "walkthrough.py", tmp_path)
    strict = ("--strict", "--config-file=", "--python-executable", binaries / "python", "--cache-dir", TOOLS / "mypy")
    (tmp_path / "first.py").write_text(documented("python"))
    run(sys.executable, "-m", "mypy", *strict, "flow_nexus", "walkthrough.py", "first.py", cwd=tmp_path)
    assert made_a_cluster(run(binaries / "python", "first.py", cwd=tmp_path, **address(stack)))
    found = result(run(binaries / "python", "walkthrough.py", cwd=tmp_path, **address(stack)))
    assert found.pop("files") > 3
    assert found == EXPECTED


def test_python_of_openapi_generator(stack: EmbeddedStack, tmp_path: Path) -> None:
    optional("java", files={})
    properties = "--additional-properties=packageName=flownexus"
    openapi_generator("python", ".", properties, cwd=tmp_path)
    program = PROGRAMS / "walkthrough_openapi_generator.py"
    found = result(run(TOOLS / "venv/bin/python", program, cwd=tmp_path, PYTHONPATH=str(tmp_path), **address(stack)))
    assert found.pop("bytes") is True
    assert found == EXPECTED


def test_typescript(stack: EmbeddedStack, tmp_path: Path) -> None:
    tool("js/node_modules/.bin/openapi-ts", "node")
    binaries = TOOLS / "js/node_modules/.bin"
    (tmp_path / "node_modules").symlink_to(TOOLS / "js/node_modules")
    generate = ("-i", ROOT / "openapi.json", "-o", "client", "-c", "@hey-api/client-fetch")
    printed = run(binaries / "openapi-ts", *generate, cwd=tmp_path)
    assert warnings(printed.splitlines()) == []
    for name in ("walkthrough.ts", "tsconfig.json"):
        shutil.copy(PROGRAMS / name, tmp_path)
    (tmp_path / "first.ts").write_text(documented("typescript"))
    run(binaries / "tsc", "--project", "tsconfig.json", cwd=tmp_path)
    assert made_a_cluster(run("node", "out/first.js", cwd=tmp_path, **address(stack)))
    found = result(run("node", "out/walkthrough.js", cwd=tmp_path, **address(stack)))
    assert found.pop("bytes") is True
    assert found == EXPECTED


def test_go(stack: EmbeddedStack, tmp_path: Path) -> None:
    """OpenAPI Generator's client compiles with `enumClassPrefix`. It needs one library."""
    optional("go", "java", files={"golang-gopkg-validator.v2-dev": GO_LIBRARIES / "src/gopkg.in/validator.v2"})
    sources = tmp_path / "go/src"
    (sources / "walkthrough").mkdir(parents=True)
    shutil.copy(PROGRAMS / "walkthrough.go", sources / "walkthrough")
    properties = "--additional-properties=enumClassPrefix=true,withGoMod=false,packageName=flownexus"
    openapi_generator("go", sources / "flownexus", properties, cwd=tmp_path)
    go = {"GO111MODULE": "off", "GOPATH": f"{tmp_path / 'go'}:{GO_LIBRARIES}", "GOFLAGS": ""}
    (sources / "first").mkdir()
    (sources / "first/first.go").write_text(documented("go"))
    run("go", "vet", "flownexus", "walkthrough", "first", cwd=tmp_path, **go)
    run("go", "build", "-o", "walk", "walkthrough", cwd=tmp_path, **go)
    assert made_a_cluster(run("go", "run", "first", cwd=tmp_path, **go, **address(stack)))
    found = result(run(tmp_path / "walk", cwd=tmp_path, **address(stack)))
    assert found.pop("bytes") is True
    assert found == EXPECTED


def test_java(stack: EmbeddedStack, tmp_path: Path) -> None:
    """OpenAPI Generator's native client compiles without the unions that it cannot write.

    The archive of the generator has the libraries that its clients need.
    """
    optional("java", "javac", files={"libgeronimo-annotation-1.3-spec-java": ANNOTATIONS})
    (archive,) = (TOOLS / "venv").glob("lib/*/site-packages/openapi_generator_cli/openapi-generator.jar")
    names = "invokerPackage=flownexus,apiPackage=flownexus.api,modelPackage=flownexus.model"
    properties = f"--additional-properties=openApiNullable=false,supportUrlQuery=false,{names}"
    skipped = ("--schema-mappings", "OptionValue=Object,SearchChoice=Object,LabelNames=Object")
    openapi_generator("java", "java", "--library", "native", properties, *skipped, cwd=tmp_path)
    (tmp_path / "First.java").write_text(documented("java"))
    sources = [*(tmp_path / "java/src/main/java").rglob("*.java"), PROGRAMS / "Walkthrough.java", tmp_path / "First.java"]
    run("javac", "-proc:none", "-d", "out", "-cp", f"{archive}:{ANNOTATIONS}", *sources, cwd=tmp_path)
    assert made_a_cluster(run("java", "-cp", f"out:{archive}", "First", cwd=tmp_path, **address(stack)))
    found = result(run("java", "-cp", f"out:{archive}", "Walkthrough", cwd=tmp_path, **address(stack)))
    assert found.pop("bytes") is True
    assert found == EXPECTED
