"""The ONNX graphs of a global model: the aggregator writes them once, the workers fetch them."""

from pydantic import Field

from workers.agent.protocol.common import Message, ModelSpec, Peer
from workers.agent.protocol.data import DataFormat


class WriteGraphs(Message):
    """Write the graphs of a global model at the aggregator."""

    training_id: str
    model: ModelSpec
    digest: str
    validation: str | None = Field(None, description="The aggregator's validation file; the int8 graph is checked on it.")
    data_format: DataFormat = DataFormat()


class WrittenGraphs(Message):
    """The graphs that the agent has: file name -> SHA-256."""

    files: dict[str, str]


class FetchGraphs(Message):
    """Fetch the graphs of a global model at a worker, and write the graph of its own model."""

    training_id: str
    model: ModelSpec
    digest: str
    source: Peer = Field(description="Agent that has the model and its graphs.")
    files: dict[str, str] = Field(description="File name -> SHA-256.")
    dataset: str | None = Field(None, description="This worker's shard; int8 graphs are checked on its held-out split.")
    data_format: DataFormat = DataFormat()
