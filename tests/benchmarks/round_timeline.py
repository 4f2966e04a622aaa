"""The time line of each round, from what `traced_worker` has written.

A round lasts from its start to the start of the next one. Each of its lines has the sum of an
activity's seconds, and in parentheses how often it happened. Activities of several agents run side
by side, so sums can exceed the round. For posts, the line has their path and when they began and
ended in the round. Hashing is not measured: it is the moved bytes at this machine's SHA-256 rate.
"""

import hashlib
import itertools
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ACTIVITIES = ("step", "transaction", "connect", "post", "pulls", "pushes", "hashing", "averaging", "evaluation", "training")
_HASHED = 1 << 25


@dataclass(frozen=True, slots=True)
class RoundTimeline:
    """One round. `sums` has the seconds of each activity, `counts` how often it happened.

    `posts` has for each path: how many, when the first began, and when the last ended.
    """

    number: int
    seconds: float
    sums: dict[str, float]
    counts: dict[str, int]
    posts: dict[str, tuple[int, float, float]]

    def lines(self) -> list[str]:
        parts = [f"{name} {self.sums[name]:.3f} ({self.counts[name]})" for name in _ACTIVITIES if name in self.sums]
        posts = [f"    {begin:.3f} to {end:.3f}: {count} x {path}" for path, (count, begin, end) in self.posts.items()]
        return [f"  round {self.number}: {self.seconds:.3f} s: {', '.join(parts)}", *posts]


def read(trace: Path, starts: Sequence[float], moved: int) -> list[RoundTimeline]:
    """Return the rounds that began at `starts` (the last entry is the end of the last round).

    `moved` is the bytes that are hashed in each round.
    """
    intervals = [json.loads(line) for line in trace.read_text().splitlines()]
    per_byte = _seconds_per_byte()
    bounds = itertools.pairwise(starts)
    return [_round(number, begin, end, intervals, moved * per_byte) for number, (begin, end) in enumerate(bounds, start=1)]


def _round(number: int, begin: float, end: float, intervals: Sequence[dict[str, Any]], hashing: float) -> RoundTimeline:
    seconds: dict[str, list[float]] = defaultdict(list, hashing=[hashing])
    posts: dict[str, tuple[int, float, float]] = {}
    for interval in intervals:
        if not begin <= interval["end"] < end:
            continue
        kind = interval["kind"]
        seconds[kind].append(interval["end"] - max(begin, interval["start"]))
        if kind == "post":
            path = interval["path"].rsplit("/rounds/", 1)[-1] if "/rounds/" in interval["path"] else interval["path"]
            count, first, last = posts.get(path, (0, end - begin, 0.0))
            posts[path] = (count + 1, min(first, interval["start"] - begin), max(last, interval["end"] - begin))
        for name in ("pulls", "pushes"):
            seconds[name] += [value for value in interval.get(name, ()) if value is not None]
        for name in ("averaging", "evaluation", "training"):
            if interval.get(name) is not None:
                seconds[name].append(interval[name])
    sums = {name: sum(values) for name, values in seconds.items()}
    return RoundTimeline(number, end - begin, sums, {name: len(values) for name, values in seconds.items()}, posts)


def show(rounds: Sequence[RoundTimeline]) -> list[str]:
    """Return the lines of the first round, of all later ones in short, and of a median one."""
    later = sorted(rounds[1:], key=lambda item: item.seconds)
    lines = [*rounds[0].lines(), *(item.lines()[0] for item in rounds[1:])]
    names = {name for item in later for name in item.sums}
    medians = (
        f"{name} {statistics.median(item.sums.get(name, 0.0) for item in later):.3f}"
        f" ({statistics.median(item.counts.get(name, 0) for item in later):g})"
        for name in _ACTIVITIES
        if name in names
    )
    return [*lines, f"  medians of the later rounds: {', '.join(medians)}", *later[len(later) // 2].lines()]


def _seconds_per_byte() -> float:
    data = bytes(_HASHED)
    started = time.perf_counter()
    hashlib.sha256(data).hexdigest()
    return (time.perf_counter() - started) / _HASHED
