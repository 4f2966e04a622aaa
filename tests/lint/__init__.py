"""Rules of this project that no linter knows.

`python -m tests.lint` prints each breach as `path:line: what`.
"""
