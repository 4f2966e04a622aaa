"""Look for known vulnerabilities in the locked dependencies.

The exit code is 1 if there is one. Where no database can be reached, this says so and passes.
"""

import json
import subprocess
import sys
from pathlib import Path

_LOCK = Path(__file__).parent / "all.txt"
_TIMEOUT_S = 120
_ARGUMENTS = ("--requirement", str(_LOCK), "--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json")


def main() -> int:
    """0 when nothing is known against any dependency or nothing could be looked up, 1 otherwise."""
    try:
        ran = subprocess.run(  # noqa: S603 - our own arguments
            [sys.executable, "-m", "pip_audit", *_ARGUMENTS], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        found = json.loads(ran.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        found = []
    known = [item for item in found if "vulns" in item]
    if not known:
        print("pip-audit: skipped, no database of vulnerabilities can be reached from here")
        return 0
    bad = [(item, vulnerability) for item in known for vulnerability in item["vulns"]]
    for item, vulnerability in bad:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{item['name']} {item['version']}: {vulnerability['id']}, fixed in {fixed}", file=sys.stderr)
    if not bad:
        print(f"pip-audit: nothing known against {len(known)} of {len(found)} dependencies")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
