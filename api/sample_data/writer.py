"""Write data sets as files: one JSON array each, with one sample on a line.

The bytes are the same on every platform.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from api.sample_data.generator import Sample

PREFIX = "customer_feedback"


def write(folder: Path, parts: Iterable[tuple[str, Sequence[Sample]]], prefix: str = PREFIX) -> dict[str, Path]:
    """Write each part that has samples to `<prefix>_<name>.json`, and return the paths by name.

    A crash leaves no incomplete file under that name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    for name, samples in parts:
        if not samples:
            continue
        path = folder / f"{prefix}_{name}.json"
        lines = (json.dumps({"text": sample.text, "sentiment": sample.sentiment}) for sample in samples)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(("[\n" + ",\n".join(lines) + "\n]\n").encode("ascii"))
        part.replace(path)
        paths[name] = path
    return paths
