"""One JSON object per line on standard output.

Callers log names, counts and durations. They never log texts, labels or tokens.
"""

import json
import sys
import time


class Log:
    def __init__(self, node_id: str) -> None:
        self._node_id = node_id

    def __call__(self, event: str, **facts: str | float | None) -> None:
        line = {"time": round(time.time(), 3), "node_id": self._node_id, "event": event, **facts}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
