"""The variables that a caller may set, that the parts get, and that are written down for those who use the stack."""

import os
import shlex
from collections.abc import Mapping

_E2B = ("E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "E2B_HTTP_VERSION")


def sandbox_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The sandbox provider that the caller names, if any."""
    found = {name: environment.get(f"FLOW_NEXUS_{name}") or environment.get(name) for name in _E2B}
    return {name: value for name, value in found.items() if value}


def plain() -> dict[str, str]:
    """The caller's environment without what belongs to the service: for parts that need none of its secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FLOW_NEXUS_", "E2B_"))}


def control(operator: Mapping[str, str]) -> dict[str, str]:
    """For the parts that read `Settings`: the caller's own settings, but where the stack decides."""
    own = {name: value for name, value in os.environ.items() if name.startswith("FLOW_NEXUS_")}
    return {**plain(), **{name: value for name, value in own.items() if not name.startswith("FLOW_NEXUS_E2B_")}, **operator}


def lines(values: Mapping[str, str]) -> str:
    """As a POSIX shell reads them."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
