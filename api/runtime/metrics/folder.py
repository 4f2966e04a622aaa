"""The folder in which several processes of the service keep their counts of requests."""

import os
from contextlib import suppress
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def forget_dead_processes() -> None:
    """Drop the gauges of processes that have ended. Their counts stay."""
    # The parent of the processes imports this file too, but needs no Prometheus.
    from prometheus_client.multiprocess import mark_process_dead

    folder = os.environ.get(FOLDER)
    for file in Path(folder).glob("gauge_live*_*.db") if folder else ():
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # Another process may do the same.
                mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
