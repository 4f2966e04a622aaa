"""Print every breach; exit 1 if there is one. Folders may be named: `python -m tests.lint api/http`."""

import sys
from pathlib import Path

from tests.lint import prose

ROOTS = ("api", "workers", "migrations")
RULES = (prose,)


def main(roots: list[str]) -> int:
    count = 0
    for root in roots or list(ROOTS):
        paths = sorted(Path(root).rglob("*.py")) if Path(root).is_dir() else [Path(root)]
        for path in paths:
            for rule in RULES:
                for line, what in rule.breaches(path):
                    print(f"{path}:{line}: {what}")
                    count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
