"""Exported models."""

from pydantic import Field

from workers.agent.protocol.common import Message, ModelSpec, Peer


class ExportModel(Message):
    training_id: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    model: ModelSpec
    digest: str
    onnx: bool = False
    dataset: str | None = Field(
        None, description="the workers' shards, as in Predict: without validation data the temperature is fitted on them"
    )
    validation: str | None = Field(
        None, description="the aggregator's validation file: temperature and int8 are measured on it"
    )
    workers: list[Peer] = []
    self_peer: Peer | None = None
    card: dict[str, object] = Field({}, description="facts for the model card; no data")
    record: list[dict[str, object]] = Field([], description="figures of each round for the model card")


class ExportedFile(Message):
    path: str
    size: int
    sha256: str


class ExportResult(Message):
    path: str
    bytes: int
    files: list[ExportedFile]
