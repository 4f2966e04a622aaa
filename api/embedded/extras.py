"""Which extra of this package brings a Python module."""

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import requires
from typing import Final

_PACKAGE: Final = "flow-nexus"
_REQUIREMENT: Final = re.compile(r"""(?P<name>[\w.-]+).*\bextra == ["'](?P<extra>[\w-]+)["']""")


def install_command(module: str) -> str:
    """Return the command that installs what a missing module belongs to."""
    extra = next(iter(extras_of(module, requires(_PACKAGE) or ())), None)
    return f"pip install '{_PACKAGE}[{extra}]'" if extra else f"pip install {_PACKAGE}"


def extras_of(module: str, requirements: Iterable[str]) -> Iterator[str]:
    """Yield the extras whose requirements name the distribution of a module."""
    wanted = _normalised(module.partition(".")[0])
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and _normalised(match["name"]) == wanted:
            yield match["extra"]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
