"""Which limits each sandbox ran into, how often and when. Kept beside the sandbox, so that a restart forgets nothing."""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workers.sandboxes.host.isolation.cgroups import Cgroups

_LOG = logging.getLogger(__name__)
_FILE = "limits.json"


@dataclass(slots=True)
class RecordedLimitHit:
    """`count` is what was noticed: the kernel's own count where there is one, else the times that somebody looked."""

    limit: str
    count: int
    first_at: str
    last_at: str


class LimitHitLog:
    """Of one sandbox, by limit."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._hits: dict[str, RecordedLimitHit] = {}
        self._counters: dict[str, int] = {}
        self._changed = False
        try:
            self._hits = {item["limit"]: RecordedLimitHit(**item) for item in json.loads(self._file.read_text())}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError):
            _LOG.warning("the record of a sandbox's limits was not readable and starts anew")

    def note(self, limit: str, times: int = 1) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        hit = self._hits.setdefault(limit, RecordedLimitHit(limit, 0, now, now))
        hit.count += times
        hit.last_at = now
        self._changed = True

    def add_kernel_counts(self, cgroups: Cgroups, sandbox_id: str) -> None:
        """Add what the kernel counted since the last look."""
        for limit, total in cgroups.hits(sandbox_id).items():
            before = self._counters.get(limit, 0)
            self._counters[limit] = total
            if total > before:
                self.note(limit, total - before)

    def save(self) -> None:
        if not self._changed:
            return
        self._changed = False
        temporary = self._file.with_name(f".{_FILE}")
        try:
            temporary.write_text(json.dumps(self.as_json()))
            temporary.replace(self._file)
        except OSError as error:
            _LOG.warning("could not keep a sandbox's limits: %s", error.strerror)

    def as_json(self) -> list[dict[str, Any]]:
        """The latest first."""
        return [asdict(hit) for hit in sorted(self._hits.values(), key=lambda hit: hit.last_at, reverse=True)]
