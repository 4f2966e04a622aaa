"""What a node has to work with."""

from api.domain.records import Record


class NodeResources(Record):
    """What a node's sandbox has. `memory_gb` is in GiB.

    A null was not measured, or is not there.
    """

    cpu_cores: int | None
    memory_gb: float | None
    gpu: str | None
