"""Debian's Prometheus and its promtool. Where they must be present, their absence is a failure."""

import os
import shutil
import subprocess

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
if os.environ.get("FLOW_NEXUS_PROMETHEUS") == "required" and not (PROMETHEUS and PROMTOOL):
    raise RuntimeError("FLOW_NEXUS_PROMETHEUS says that prometheus and promtool are installed")


def promtool(*arguments: str, given: str | None = None) -> "subprocess.CompletedProcess[str]":
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False)


def findings(exposed: str) -> list[str]:
    """Return what promtool finds wrong with metrics in the text format, one finding a line."""
    ran = promtool("check", "metrics", given=exposed)
    assert ran.returncode in (0, 3), ran.stderr
    return ran.stderr.splitlines()
