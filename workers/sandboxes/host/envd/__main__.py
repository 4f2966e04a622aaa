"""`python -m envd --control FD --log FD`: run as the first process of a sandbox."""

import argparse
import asyncio
import socket
import sys
import types
from importlib.util import find_spec

from .wire import SandboxSettings


def _skip_client_imports() -> None:
    """Allow the import of `e2b.envd` without `e2b/__init__`.

    That module loads the whole client, which takes half of envd's start time and memory.
    """
    spec = find_spec("e2b")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the e2b package is not installed")
    package = types.ModuleType("e2b")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["e2b"] = package


def main() -> None:
    parser = argparse.ArgumentParser(prog="envd")
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--log", type=int, required=True)
    arguments = parser.parse_args()
    control = socket.socket(fileno=arguments.control)
    control.set_inheritable(False)
    settings = SandboxSettings.receive(control)
    _skip_client_imports()

    from .process_limits import apply_limits
    from .server import serve

    apply_limits(settings)
    asyncio.run(serve(settings, control, arguments.log))


if __name__ == "__main__":
    main()
