"""Evaluations and predictions."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import Message, ModelSpec, Peer


class EvaluationResult(Message):
    node_id: str
    digest: str
    samples: int
    loss: float
    accuracy: float
    seconds: float


class EvaluateModel(Message):
    training_id: str
    model: ModelSpec
    digest: str
    source: Peer
    dataset: str
    held_out: bool = Field(True, description="True: only the held-out split; False: every sample")


class CalibrationSums(Message):
    """How surprised a model is by held-out labels, by sums only: nats at each temperature of calibration.py's grid."""

    samples: int
    right: list[float] = Field(description="of the right labels")
    even: list[float] = Field(description="of all labels alike, mean over the classes")


class PredictTexts(Message):
    """Give `inputs` or `input_data`. The aggregator splits the texts over the workers and combines what they answer."""

    training_id: str
    model: ModelSpec
    digest: str
    dataset: str | None = Field(
        None, description="the workers' shards, if parts of them were held out: temperatures and weights are measured on those"
    )
    validation: str | None = Field(
        None, description="the aggregator's validation file, if it has one: `global` is calibrated on it"
    )
    aggregation: Literal["global", "ensemble", "majority", "weighted", "mean"]
    workers: list[Peer]
    self_peer: Peer
    inputs: list[str] | None = None
    input_data: str | None = None
    engine: Literal["torch", "onnx"] = "torch"


class TextPrediction(Message):
    text: str
    sentiment: str
    confidence: float


class PredictionResult(Message):
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1_score: float | None = None
    predictions: list[TextPrediction]
    temperature: float | None = Field(None, description="`global`: what the confidences were calibrated with")
    temperatures: dict[str, float | None] = Field({}, description="the others: of each worker's own model")
    engines: dict[str, str] = Field({}, description="what each worker computed with")
    seconds: float
    nodes_used: int
    lost: list[str] = []


class InferTexts(Message):
    training_id: str
    model: ModelSpec
    digest: str
    source: Peer
    texts: list[str]
    local: bool = Field(False, description="use this worker's own last local model where it has one")
    dataset: str | None = Field(None, description="this worker's shard: what is measured is measured on its held-out split")
    weigh: bool = Field(False, description="tell the held-out accuracy of the model used")
    calibrate: bool = Field(False, description="an own model answers calibrated, the global one with a curve")
    engine: Literal["torch", "onnx"] = "torch"


class InferenceResult(Message):
    node_id: str
    probabilities: list[list[float]] = Field(description="texts x classes")
    weight: float | None = Field(None, description="held-out accuracy of the model used, where measured")
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="that the probabilities were calibrated with"
    )
    calibration_sums: CalibrationSums | None = None
    engine: Literal["torch", "onnx-fp32", "onnx-int8"] = "torch"
