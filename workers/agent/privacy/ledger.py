"""How many private steps a worker's updates of each round have shown, kept on its disk: a round that is trained again after a
restart is spent again."""

import json
import os
from pathlib import Path

_FILE = "privacy.json"


def record_steps(folder: Path, number: int, steps: int) -> int:
    """Add `steps` to round `number`; returns all that the round has spent here. On the disk before anything is sent."""
    path = folder / _FILE
    spent: dict[str, int] = json.loads(path.read_text()) if path.is_file() else {}
    spent[str(number)] = spent.get(str(number), 0) + steps
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w") as file:
        json.dump(spent, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return spent[str(number)]
