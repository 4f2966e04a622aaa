"""A worker's record of the DP-SGD steps that each round has spent.

It is on disk. A round that is trained again after a restart spends its steps again.
"""

import json
import os
from pathlib import Path

_FILE = "privacy.json"


def record_steps(folder: Path, number: int, steps: int) -> int:
    """Add `steps` to round `number`; return all steps that the round has spent here.

    The record is on disk when it returns. So call it before the update is sent.
    """
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
