"""The host's configuration, from its command line and its environment."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

_KEY_VARIABLE = "E2B_API_KEY"
_WARM_VARIABLE = "FLOW_NEXUS_WARM_AGENTS"
_MIN_KEY_LENGTH = 16


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The limits of each sandbox. Sizes are in bytes."""

    memory_bytes: int
    disk_bytes: int
    files: int
    processes: int


@dataclass(frozen=True, slots=True)
class HostConfig:
    home: Path
    address: str
    port: int
    api_key: str
    limits: SandboxLimits
    isolation: str
    template_prefix: str
    warm_agents: bool


def read_config(arguments: list[str] | None = None) -> HostConfig:
    """Return the configuration. Exit with a message if the command line or the key is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.sandboxes.host",
        description="Serve sandboxes on this machine over E2B's protocol. "
        f"The API key is read from --api-key-file or the environment variable {_KEY_VARIABLE}.",
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for the sandboxes")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--api-key-file", type=Path)
    parser.add_argument("--isolation", choices=["auto", "bubblewrap", "namespaces", "none"], default="auto")
    parser.add_argument("--memory-mb", type=int, default=4096, help="memory limit of a sandbox, MiB")
    parser.add_argument("--disk-mb", type=int, default=10240, help="disk limit of a sandbox, MiB")
    parser.add_argument("--files", type=int, default=500_000, help="limit of files and folders of a sandbox")
    parser.add_argument("--processes", type=int, default=512, help="limit of processes and threads of a sandbox")
    parser.add_argument("--template-prefix", default="flow-nexus-", help="templates have names with and without it")
    parser.add_argument(
        "--warm-agents",
        action=argparse.BooleanOptionalAction,
        default=os.environ.get(_WARM_VARIABLE, "on"),
        help=f"fork sandboxes and agents from a template process; the default is off if {_WARM_VARIABLE} is 'off'",
    )
    options = parser.parse_args(arguments)
    try:
        key = options.api_key_file.read_text().strip() if options.api_key_file else os.environ.get(_KEY_VARIABLE, "")
    except OSError as error:
        parser.error(f"cannot read the API key: {error.strerror}")
    if options.warm_agents not in (True, False, "on", "off"):
        parser.error(f"{_WARM_VARIABLE} must be 'on' or 'off'")
    if len(key) < _MIN_KEY_LENGTH:
        parser.error(f"the API key must have at least {_MIN_KEY_LENGTH} characters")
    return HostConfig(
        home=options.home.resolve(),
        address=options.host,
        port=options.port,
        api_key=key,
        limits=SandboxLimits(options.memory_mb << 20, options.disk_mb << 20, options.files, options.processes),
        isolation=options.isolation,
        template_prefix=options.template_prefix,
        warm_agents=options.warm_agents in (True, "on"),
    )
