"""Result lines, in the format that `python -m tests.benchmarks` reads."""

MARK = "=>"


def row(what: str, figure: str, wanted: str = "") -> None:
    """Print one result. `wanted` is its goal in words; empty without a goal."""
    print(f"{MARK} {what} | {figure} | {wanted}", flush=True)


def rows_of(output: str) -> list[tuple[str, str, str]]:
    found = [line.removeprefix(MARK).split("|") for line in output.splitlines() if line.startswith(MARK)]
    return [(what.strip(), figure.strip(), wanted.strip()) for what, figure, wanted in found]
