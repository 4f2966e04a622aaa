"""Environment variables: the caller's, those of the services, and those of the written files."""

import os
import shlex
from collections.abc import Mapping

_HOST = ("FLOW_NEXUS_WARM_AGENTS",)
_E2B = ("E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "E2B_HTTP_VERSION")


def sandbox_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the sandbox provider that the caller names; empty without one."""
    settings = {name: environment.get(f"FLOW_NEXUS_{name}") or environment.get(name) for name in _E2B}
    return {name: value for name, value in settings.items() if value}


def plain() -> dict[str, str]:
    """Return the caller's environment without the variables of Flow Nexus and E2B.

    It is for services that need no secret.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(("FLOW_NEXUS_", "E2B_"))}


def sandbox_host() -> dict[str, str]:
    """Return the environment of the local sandbox host: `plain` and the host's own settings."""
    return {**plain(), **{name: os.environ[name] for name in _HOST if name in os.environ}}


def control(operator: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the services that read `Settings`.

    It holds the caller's own settings; the stack's values in `operator` replace them.
    """
    settings = {name: value for name, value in os.environ.items() if name.startswith("FLOW_NEXUS_")}
    settings = {name: value for name, value in settings.items() if not name.startswith("FLOW_NEXUS_E2B_")}
    return {**plain(), **settings, **operator}


def lines(values: Mapping[str, str]) -> str:
    """Return one assignment a line, quoted for a POSIX shell."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
