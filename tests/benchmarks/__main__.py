"""Every benchmark that README quotes, one after another, into tests/benchmarks/RESULTS.md: `python -m tests.benchmarks`.

Each is a command of its own and may be run alone. One that fails or takes longer than its limit is said to have done so, and
the others go on.
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
    arguments: str
    limit_s: int

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
BENCHMARKS = (
    Benchmark("local_steps", 120),
    Benchmark("round_overhead --workers 4 --sizes 1 87", 180),
    Benchmark("agent_accuracy --seeds 0", 180),
    Benchmark("topologies --workers 2,4,8,16,32 --rounds 1", 180),
    Benchmark("compression --ways none int8 topk+int8 lora+int8", 300),
    Benchmark("strategies", 360),
    Benchmark("malicious --samples 1500 --rounds 2", 420),
    Benchmark("privacy --epochs 8 --ways plain secure dp8 dp3", 240),
    Benchmark("predictions", 240),
    Benchmark("pretrained --set target_accuracy=0.9 --goal-seconds 180", 300),
    Benchmark("pretrained --epochs 4 --set schedule='\"cosine\"' --goal-accuracy 0.964", 480),
    Benchmark(f"pretrained {_HEADLINE} --goal-accuracy 0.96 --goal-seconds 1455", 1600),
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
    """First asked, so that a stack that it started goes with it."""
    process.terminate()
    try:
        return process.communicate(timeout=_GRACE_S)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def report(outcomes: list[Outcome], seconds: float) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"`make bench` on {time.strftime('%Y-%m-%d', time.gmtime())}, {seconds / 60:.0f} minutes: {machine()}.",
        "Each command is `.venv/bin/python -m tests.benchmarks.` and what its row says.",
        "",
        "| what | figure | wanted | command |",
        "| --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        command = f"`{outcome.benchmark.arguments}`"
        lines += [f"| {what} | {figure} | {wanted} | {command} |" for what, figure, wanted in outcome.rows]
        if outcome.problem:
            lines.append(f"| {outcome.benchmark.name} | {outcome.problem} | | {command} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--only", nargs="+", help="names of benchmarks; the table then holds these alone")
    given = parser.parse_args()
    chosen = [benchmark for benchmark in BENCHMARKS if not given.only or benchmark.name in given.only]
    started = time.monotonic()
    outcomes: list[Outcome] = []
    for benchmark in chosen:
        outcomes.append(run(benchmark))
        RESULTS.write_text(report(outcomes, time.monotonic() - started))
    sys.exit(any(outcome.problem for outcome in outcomes))


if __name__ == "__main__":
    main()
