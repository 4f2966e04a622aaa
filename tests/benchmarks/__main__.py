"""Run every benchmark that the README quotes, and write tests/benchmarks/RESULTS.md.

    python -m tests.benchmarks [--all]

Each benchmark is a command that can also run alone. A benchmark that fails or exceeds its limit is
reported, and the others still run. `--all` adds the benchmarks that are not about learning.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.benchmarks.rows import rows_of

RESULTS = Path(__file__).with_name("RESULTS.md")
_GRACE_S = 30
_PACKAGES = ("torch", "transformers", "onnxruntime", "fastapi", "sqlalchemy", "celery")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`also` marks benchmarks that `make bench` does not run. It must end within 40 minutes."""

    arguments: str
    limit_s: int
    also: bool = False

    @property
    def name(self) -> str:
        return self.arguments.split()[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    benchmark: Benchmark
    rows: list[tuple[str, str, str]]
    seconds: float
    problem: str | None


_HEADLINE = "--epochs 50 --learning-rate 2e-4 --set freeze_layers=3 --set local_epochs=5 --set schedule='\"cosine\"'"
_PRIVATE = "--epochs 5 --rate 1e-2 --private-rate 1e-2 --private-batch 128"
_HEAD = (
    "# Benchmarks",
    "",
    "Written by `make bench`. Each command is `.venv/bin/python -m tests.benchmarks.` and what its row says; the last column",
    "is how long it ran. `.venv/bin/python -m tests.benchmarks --only strategies` runs some of them anew.",
)
_TABLE = ("", "| what | figure | wanted | command | took |", "| --- | --- | --- | --- | --- |")
BENCHMARKS = (
    Benchmark(f"pretrained {_HEADLINE} --goal-accuracy 0.96 --goal-seconds 1455", 1500),
    Benchmark("pretrained --epochs 4 --set schedule='\"cosine\"' --set hold_out=false --goal-accuracy 0.964", 360),
    Benchmark("malicious --samples 1250 --only none,proof-of-learning", 300),
    Benchmark("strategies --only fedavg fedavgm median", 420),
    Benchmark("predictions --repeats 3", 180),
    Benchmark("compression --ways none topk+int8 lora+int8", 180),
    Benchmark("pretrained --set target_accuracy=0.9 --goal-seconds 180", 180),
    Benchmark("local_steps", 120),
    Benchmark("topologies --workers 2,4,8,16,32 --rounds 1", 150),
    Benchmark("malicious --samples 1250 --only byzantine", 300, also=True),
    Benchmark("privacy --epochs 6 --ways plain secure", 180, also=True),
    Benchmark(f"privacy --model minilm --set freeze_layers=6 {_PRIVATE} --ways plain dp8", 400, also=True),
    Benchmark("round_overhead --workers 4 --sizes 1 87", 150, also=True),
    Benchmark("api_latency --seconds 3", 400, also=True),
    Benchmark("agent_accuracy --seeds 0", 150, also=True),
    Benchmark("floor --training 2000 --test 1000", 300, also=True),
    Benchmark("large_shard --mib 1000", 1500, also=True),
    Benchmark("start --skip-restart", 240, also=True),
)


def run(benchmark: Benchmark) -> Outcome:
    print(f"\n## {benchmark.arguments}", flush=True)
    command = f"exec {sys.executable} -m tests.benchmarks.{benchmark.arguments}"
    started = time.monotonic()
    process = subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=benchmark.limit_s)
        problem = None if process.returncode == 0 else f"failed with exit code {process.returncode}"
    except subprocess.TimeoutExpired:
        output, problem = _ended(process), f"was ended after its limit of {benchmark.limit_s} s"
    print(output, flush=True)
    return Outcome(benchmark, rows_of(output), time.monotonic() - started, problem)


def _ended(process: subprocess.Popen[str]) -> str:
    """Interrupt the command first, so that it can stop a stack that it started."""
    process.terminate()
    try:
        return process.communicate(timeout=_GRACE_S)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def lines_of(outcome: Outcome) -> list[str]:
    end = f"`{outcome.benchmark.arguments}` | {outcome.seconds:.0f} s |"
    lines = [f"| {what} | {figure} | {wanted} | {end}" for what, figure, wanted in outcome.rows]
    return [*lines, f"| {outcome.benchmark.name} | {outcome.problem} | | {end}"] if outcome.problem else lines


def write(outcomes: list[Outcome]) -> None:
    """Keep the rows of benchmarks that did not run this time.

    Remove the rows of commands that no longer exist.
    """
    before = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    table: list[str] = []
    for benchmark in BENCHMARKS:
        new = next((lines_of(outcome) for outcome in outcomes if outcome.benchmark == benchmark), None)
        table += [line for line in before if f"| `{benchmark.arguments}` |" in line] if new is None else new
    RESULTS.write_text(
        "\n".join([*_HEAD, f"Last run {time.strftime('%Y-%m-%d', time.gmtime())}, on {machine()}.", *_TABLE, *table, ""])
    )


def machine() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _is_wanted(benchmark: Benchmark, given: argparse.Namespace) -> bool:
    if given.only:
        return any(word in benchmark.arguments for word in given.only)
    return given.all or not benchmark.also


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--only", nargs="+", help="words of their commands; the rows of the others stay as they are")
    parser.add_argument("--all", action="store_true", help="those too that `make bench` leaves out")
    given = parser.parse_args()
    chosen = [one for one in BENCHMARKS if _is_wanted(one, given)]
    outcomes: list[Outcome] = []
    for benchmark in chosen:
        outcomes.append(run(benchmark))
        write(outcomes)
    sys.exit(any(outcome.problem for outcome in outcomes))


if __name__ == "__main__":
    main()
