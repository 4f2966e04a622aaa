"""Where figures come from: the data that a model was measured on, and the engine that computed."""

from typing import Annotated, Literal

from api.domain.words import Words

ValidationSource = Annotated[
    Literal["validation_data", "held_out_splits"],
    Words(
        "ValidationSource",
        "validation_data: the files of the aggregator and the validators. held_out_splits: a part of each worker's data.",
    ),
]
Engine = Annotated[
    Literal["torch", "onnx-fp32", "onnx-int8"],
    Words("Engine", "What computed a prediction. onnx-int8: only when it gave the same labels on held-out data."),
]
