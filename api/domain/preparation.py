"""How far the reading of a training's data is, before its first round."""

from collections.abc import Mapping
from typing import Annotated, Literal

from api.domain.records import Record
from api.domain.words import Words, words_of

Stage = Annotated[Literal["check", "tokens"], Words("PreparationStage", "What an agent does with the data before the rounds.")]
_STAGES: tuple[Stage, ...] = words_of(Stage)


class NodeReading(Record):
    """What one node's agent has read in its current stage. Bytes are those of the stored files."""

    stage: Stage
    bytes_read: int
    bytes_total: int
    rows: int


class PreparationRecord(Record):
    """The readings by node. A node whose agent has not answered yet is not in it."""

    nodes: Mapping[str, NodeReading]

    @property
    def progress(self) -> float:
        """Return the part of all stages that is done, 0..1, weighted by the nodes' bytes."""
        total = sum(reading.bytes_total for reading in self.nodes.values())
        done = sum(
            _STAGES.index(reading.stage) * reading.bytes_total + min(reading.bytes_read, reading.bytes_total)
            for reading in self.nodes.values()
        )
        return round(done / (len(_STAGES) * total), 3) if total else 0.0
