"""Evaluations and predictions."""

from typing import Final, Literal

from pydantic import Field

from workers.agent.protocol.common import Message, ModelSpec, Peer
from workers.agent.protocol.data import DataFormat

Engine = Literal["torch", "onnx-fp32", "onnx-int8"]

# A matrix of more classes is too large to be read.
MAX_CONFUSED_CLASSES: Final = 50


class EvaluateModel(Message):
    """Evaluate a model on the worker's own samples."""

    training_id: str
    model: ModelSpec
    digest: str
    source: Peer = Field(description="Agent that has the model.")
    dataset: str
    data_format: DataFormat = DataFormat()
    held_out: bool = Field(True, description="True: only the held-out split; False: every sample.")


class EvaluationResult(Message):
    """How good a model is: mean cross-entropy `loss` in nats, and `accuracy` 0..1."""

    node_id: str
    digest: str
    samples: int
    loss: float
    accuracy: float
    seconds: float


class CalibrationSums(Message):
    """Sums of cross-entropy over held-out samples, in nats.

    Each list has one sum for each temperature of the grid in calibration.py.
    """

    samples: int
    right: list[float] = Field(description="Cross-entropy with the right labels.")
    even: list[float] = Field(description="Cross-entropy with a uniform distribution over the classes.")


class PredictTexts(Message):
    """Predict the labels of texts, which are either `inputs` or the file `input_data`.

    The aggregator splits the texts over the workers and combines their answers.
    """

    training_id: str
    model: ModelSpec
    digest: str
    dataset: str | None = Field(
        None, description="The workers' shards, if they hold samples out; temperatures and weights are measured on those."
    )
    validation: str | None = Field(
        None, description="The aggregator's validation file, if there is one; `global` is calibrated on it."
    )
    data_format: DataFormat = Field(DataFormat(), description="Of `dataset` and `validation`.")
    aggregation: Literal["global", "ensemble", "majority", "weighted", "mean"]
    workers: list[Peer]
    self_peer: Peer = Field(description="The address at which the workers reach this aggregator.")
    inputs: list[str] | None = None
    input_data: str | None = None
    input_format: DataFormat = DataFormat()
    input_sha256: str | None = Field(None, description="The SHA-256 that `input_data` must have.")
    prediction_id: str | None = Field(None, description="The id under which the prediction can be followed and stopped.")
    engine: Literal["torch", "onnx"] = "torch"
    count_unseen: bool = Field(False, description="Whether the model shows which words were seen in training.")
    votes: bool = Field(False, description="Return the answer of each worker too.")


class DescribeInput(Message):
    """Measure the file or files of a prediction."""

    input_data: str


class InputDescription(Message):
    """The bytes of the input, and its SHA-256.

    Several files count as one, in the order of paths.
    """

    size: int
    sha256: str


class PredictionProgress(Message):
    """The part of the texts that is done, 0..1. None while it is not known."""

    progress: float | None = None


class TextPrediction(Message):
    """The predicted label of one text, with a confidence 0..1."""

    text: str
    sentiment: str
    confidence: float


class NodeVote(Message):
    """The label that the model of one worker gives a text, with its confidence 0..1."""

    sentiment: str
    confidence: float


class ConfusionMatrix(Message):
    """How often each true class was predicted as each class. Rows are true, columns predicted."""

    labels: list[str] = Field(max_length=MAX_CONFUSED_CLASSES)
    counts: list[list[int]] = Field(description="shape (labels, labels).")


class PredictionResult(Message):
    """The predictions, and their metrics (0..1) where the texts had labels."""

    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1_score: float | None = None
    confusion_matrix: ConfusionMatrix | None = None
    predictions: list[TextPrediction]
    temperature: float | None = Field(None, description="`global`: the temperature of the confidences.")
    temperatures: dict[str, float | None] = Field(
        {}, description="Other aggregations: node id -> temperature of that worker's own model."
    )
    engines: dict[str, Engine] = Field({}, description="Node id -> engine that computed the probabilities.")
    votes: dict[str, list[NodeVote]] = Field(
        {}, description="Node id -> its answers in the order of the texts, where the request asks for them."
    )
    seconds: float
    nodes_used: int
    lost: list[str] = Field([], description="Workers that did not answer.")
    notices: list[str] = Field(
        [], description="What was left out of the figures and why; and what the model cannot read of the texts."
    )


class TextCounts(Message):
    """What a model cannot read of some texts. None: it is not known."""

    cut: int | None = Field(None, ge=0, description="Texts with more tokens than max_length.")
    tokens: int = Field(ge=0, description="Tokens of the texts that the model gets, without special tokens.")
    unknown: int | None = Field(None, ge=0, description="Tokens that a pretrained tokenizer does not know.")
    unseen: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Tokens that no training text had. It is an estimate."
    )
    least_unseen: float | None = Field(None, ge=0, allow_inf_nan=False, description="The lower end of `unseen`.")


class InferTexts(Message):
    """Compute class probabilities for texts."""

    training_id: str
    model: ModelSpec
    digest: str
    source: Peer = Field(description="Agent that has the global model.")
    texts: list[str]
    local: bool = Field(False, description="Use this worker's own last local model where there is one.")
    dataset: str | None = Field(None, description="This worker's shard; metrics come from its held-out split.")
    data_format: DataFormat = DataFormat()
    weigh: bool = Field(False, description="Return the held-out accuracy of the model.")
    calibrate: bool = Field(False, description="Calibrate a local model; return the sums of a global one.")
    engine: Literal["torch", "onnx"] = "torch"
    count_unseen: bool = Field(False, description="Whether the global model shows which words were seen in training.")


class InferenceResult(Message):
    """The class probabilities of the texts, in their order."""

    node_id: str
    probabilities: list[list[float]] = Field(description="shape (texts, classes).")
    weight: float | None = Field(None, description="Held-out accuracy of the model, where it was measured.")
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Temperature that calibrated the probabilities."
    )
    calibration_sums: CalibrationSums | None = None
    engine: Engine = "torch"
    counts: TextCounts | None = Field(None, description="What the model cannot read of the texts.")
