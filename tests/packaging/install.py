"""Build the wheel of this checkout and install it into an environment of its own."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
_OFFLINE = ("--no-deps", "--no-index", "--no-cache-dir")
_BUILD_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Install:
    """An installed wheel. Its programs run in `work`, a folder that is empty at first."""

    wheel: Path
    environment: Path
    work: Path

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    @property
    def program(self) -> Path:
        return self.environment / "bin" / "flow-nexus"

    def run(self, *argv: str | Path, timeout_s: float, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in `work`, without any setting or path of the caller."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.work), "LANG": "C.UTF-8", **variables}
        return subprocess.run(
            [str(part) for part in argv],
            cwd=self.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def build_and_install(folder: Path) -> Install:
    """Install the wheel below `folder`, beside copies of this environment's dependencies.

    Nothing is downloaded.
    """
    return _install(_build_wheel(folder), folder, None)


def install_part(whole: Install, folder: Path, lock: Path) -> Install:
    """Install the same wheel below `folder`, with only the dependencies that a lock names."""
    names = {_normalised(match[1]) for match in re.finditer(r"^([\w.-]+)==", lock.read_text(), re.MULTILINE)}
    return _install(whole.wheel, folder, names)


def _install(wheel: Path, folder: Path, names: set[str] | None) -> Install:
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=_BUILD_TIMEOUT_S)
    _copy_dependencies(environment, names)
    install = Install(wheel, environment, folder / "work")
    install.work.mkdir()
    command = [*_PIP, "--python", str(install.python), "install", *_OFFLINE, str(wheel)]
    subprocess.run(command, check=True, timeout=_BUILD_TIMEOUT_S)
    return install


def _build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout.

    In the checkout itself, setuptools would also pack what an earlier build left in `build`.
    """
    source, wheels = folder / "source", folder / "wheels"
    skipped = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")
    shutil.copytree(_ROOT, source, ignore=skipped)
    command = [*_PIP, "wheel", "--no-build-isolation", *_OFFLINE, "--wheel-dir", str(wheels), str(source)]
    subprocess.run(command, check=True, timeout=_BUILD_TIMEOUT_S)
    (wheel,) = wheels.glob("*.whl")
    return wheel


def _copy_dependencies(environment: Path, names: set[str] | None) -> None:
    """Link installed packages but our own into the environment: those in `names`, or all.

    A path to the packages would not do: a sandbox sees only the folder of its own environment.
    """
    source = Path(sysconfig.get_path("purelib"))
    target = environment / source.relative_to(sys.prefix)
    shutil.rmtree(target)
    copy = _link_or_copy(source, target.parent)
    if names is None:
        skipped = shutil.ignore_patterns("__editable__*", "flow_nexus*", "pip", "pip-*")
        shutil.copytree(source, target, ignore=skipped, copy_function=copy)
        return
    for package in distributions(path=[str(source)]):
        if _normalised(package.name) in names:
            for file in package.files or ():
                if ".." not in file.parts and (source / file).is_file():
                    (target / file).parent.mkdir(parents=True, exist_ok=True)
                    copy(str(source / file), str(target / file))


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _link_or_copy(source: Path, target: Path) -> Callable[[str, str], object]:
    """Hard links take no space, but only exist within one file system."""
    return os.link if source.stat().st_dev == target.stat().st_dev else shutil.copy2
