"""The limits that each sandbox reached, how often and when.

The record lies beside the sandbox, so it survives a restart of the host.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from workers.sandboxes.host.isolation.cgroups import Cgroups

_LOG = logging.getLogger(__name__)
_FILE = "limits.json"


@dataclass(slots=True)
class RecordedLimitHit:
    """One limit that a sandbox reached. Times are in ISO 8601.

    `count` is the kernel's own count where there is one. Otherwise it counts the checks that found
    the limit reached.
    """

    limit: str
    count: int
    first_at: str
    last_at: str


_HITS = TypeAdapter(list[RecordedLimitHit])


class LimitHitLog:
    """The limits that one sandbox reached, by the limit's name."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._hits: dict[str, RecordedLimitHit] = {}
        self._kernel_counts: dict[str, int] = {}
        self._changed = False
        try:
            self._hits = {hit.limit: hit for hit in _HITS.validate_json(self._file.read_bytes())}
        except FileNotFoundError:
            pass
        except (OSError, ValueError):
            _LOG.warning("the record of a sandbox's limits is not readable; a new one begins")

    def add(self, limit: str, times: int = 1) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        hit = self._hits.setdefault(limit, RecordedLimitHit(limit, 0, now, now))
        hit.count += times
        hit.last_at = now
        self._changed = True

    def add_kernel_counts(self, cgroups: Cgroups, sandbox_id: str) -> None:
        """Add the hits that the kernel counted since the last call."""
        for limit, count in cgroups.hits(sandbox_id).items():
            previous = self._kernel_counts.get(limit, 0)
            self._kernel_counts[limit] = count
            if count > previous:
                self.add(limit, count - previous)

    def save(self) -> None:
        if not self._changed:
            return
        self._changed = False
        temporary = self._file.with_name(f".{_FILE}")
        try:
            temporary.write_bytes(_HITS.dump_json(self.latest_first()))
            temporary.replace(self._file)
        except OSError as error:
            _LOG.warning("could not save a sandbox's limits: %s", error.strerror)

    def latest_first(self) -> list[RecordedLimitHit]:
        return sorted(self._hits.values(), key=lambda hit: hit.last_at, reverse=True)
