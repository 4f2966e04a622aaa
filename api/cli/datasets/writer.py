"""Write shards and a test set as files that a training reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from api.cli.datasets.check import FileSample
from api.cli.datasets.split import Shards
from api.cli.errors import UsageError


def files_of(folder: Path, shards: Shards, test: Sequence[FileSample]) -> dict[Path, Sequence[FileSample]]:
    """Return the paths of the shards, and of the test set if it has samples."""
    files: dict[Path, Sequence[FileSample]] = {folder / f"train_{number}.json": shard for number, shard in enumerate(shards, 1)}
    return files | ({folder / "test.json": test} if test else {})


def write(files: Mapping[Path, Sequence[FileSample]]) -> None:
    """Write JSON arrays with one sample on a line.

    Raises:
        UsageError: A file cannot be written.
    """
    for path, samples in files.items():
        lines = (json.dumps({"text": sample.text, "sentiment": sample.label}, ensure_ascii=False) for sample in samples)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None
