"""One line a figure, in a form that `python -m tests.benchmarks` finds again in what a benchmark prints."""

MARK = "=>"


def row(what: str, figure: str, wanted: str = "") -> None:
    """`wanted` is the goal that the figure is held against, in words; empty where there is none."""
    print(f"{MARK} {what} | {figure} | {wanted}", flush=True)


def rows_of(output: str) -> list[tuple[str, str, str]]:
    found = [line.removeprefix(MARK).split("|") for line in output.splitlines() if line.startswith(MARK)]
    return [(what.strip(), figure.strip(), wanted.strip()) for what, figure, wanted in found]
