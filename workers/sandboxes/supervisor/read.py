"""Tell how an execution stands and what it has printed, as JSON."""

import base64
import json
import time
from typing import Any

from .folder import Folder

_TICK_S = 0.05
_STREAMS = ("stdout", "stderr")


def read(folder: Folder, after: tuple[int, int], most: int, wait_s: float) -> str:
    """Return the state, the end, and at most `most` bytes of each stream.

    `after` is the position in each stream. A negative one counts from the end. The answer waits at
    most `wait_s` seconds for more output or the end. If `most` is 0, it waits for the end alone.
    """
    end_of_wait = time.monotonic() + wait_s
    while folder.state() == "running" and time.monotonic() < end_of_wait:
        if most and any(
            _size(folder, name) > position for name, position in zip(_STREAMS, after, strict=True) if position >= 0
        ):
            break
        time.sleep(_TICK_S)
    state = folder.state()
    parts = {name: _part(folder, name, position, most) for name, position in zip(_STREAMS, after, strict=True)}
    return json.dumps({"state": state, "end": folder.end(), **parts})


def _size(folder: Folder, name: str) -> int:
    try:
        return folder.output(name).stat().st_size
    except OSError:
        return 0


def _part(folder: Folder, name: str, position: int, most: int) -> dict[str, Any]:
    size = _size(folder, name)
    begin = max(0, size + position) if position < 0 else min(position, size)
    data = b""
    if most and size > begin:
        with folder.output(name).open("rb") as file:
            file.seek(begin)
            data = file.read(most)
    return {"begin": begin, "size": size, "data": base64.b64encode(data).decode()}
