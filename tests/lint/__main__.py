"""Print every breach; exit 1 if there is one.

Files or folders may be named: `python -m tests.lint api/http`.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lint import keyed_reads, markdown, prose

Rule = Callable[[Path], Iterator[tuple[int, str]]]

ROOTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "deploy", "api", "workers", "migrations")
RULES: dict[str, tuple[Rule, ...]] = {".py": (prose.breaches, keyed_reads.breaches), ".md": (markdown.breaches,)}


def main(roots: list[str]) -> int:
    count = 0
    for path in _files(roots or list(ROOTS)):
        for rule in RULES.get(path.suffix, ()):
            for line, what in rule(path):
                print(f"{path}:{line}: {what}")
                count += 1
    return 1 if count else 0


def _files(roots: list[str]) -> Iterator[Path]:
    for root in map(Path, roots):
        yield from sorted(root.rglob("*")) if root.is_dir() else [root]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
