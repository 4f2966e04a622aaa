"""`python -m envd --control FD --log FD`: run as the first process of a sandbox."""

import argparse
import asyncio
import socket

from .client_imports import skip_client_imports
from .wire import SandboxSettings


def main() -> None:
    parser = argparse.ArgumentParser(prog="envd")
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--log", type=int, required=True)
    arguments = parser.parse_args()
    control = socket.socket(fileno=arguments.control)
    control.set_inheritable(False)
    settings = SandboxSettings.receive(control)
    skip_client_imports()

    from .process_limits import apply_limits
    from .server import serve

    apply_limits(settings)
    asyncio.run(serve(settings, control, arguments.log))


if __name__ == "__main__":
    main()
