"""Exports of a global model."""

from pydantic import Field

from workers.agent.protocol.common import Message, ModelSpec, Peer
from workers.agent.protocol.data import DataFormat


class RoundMetrics(Message):
    """The figures of a completed round, by name.

    The name of a worker's figure ends with its id: `local_loss/<node_id>`.
    """

    number: int
    ended_at: float = Field(description="Seconds since 1970.")
    values: dict[str, float]


class ExportModel(Message):
    """Write a global model as a folder in Hugging Face layout, optionally with ONNX graphs."""

    training_id: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Name of the folder below /export.")
    model: ModelSpec
    digest: str
    onnx: bool = False
    dataset: str | None = Field(
        None, description="The workers' shards; the temperature is fitted on them when there is no validation file."
    )
    validation: str | None = Field(
        None, description="The aggregator's validation file; temperature and int8 are measured on it."
    )
    data_format: DataFormat = DataFormat()
    workers: list[Peer] = []
    self_peer: Peer | None = Field(None, description="The address at which the workers reach this aggregator.")
    federated: bool = Field(True, description="false: the workers shared one pooled data set.")
    card: dict[str, object] = Field({}, description="Facts for the model card; no data.")
    record: list[dict[str, object]] = Field([], description="Metrics of each round for the model card.")
    rounds: list[RoundMetrics] = Field([], description="Metrics of each round for the event file of TensorBoard.")


class ExportedFile(Message):
    """One file of an export. `size` is in bytes."""

    path: str
    size: int
    sha256: str


class ExportResult(Message):
    """Where the export is. `bytes` is the size of all files together."""

    path: str
    bytes: int
    files: list[ExportedFile]
