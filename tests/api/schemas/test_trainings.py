import pytest

from api.domain.training_spec import TrainingSpec
from api.schemas.trainings import TrainingCreate


def spec(**fields: object) -> TrainingSpec:
    return TrainingCreate.model_validate({"dataset": "/data/x.json", "epochs": 1, **fields}).spec()


@pytest.mark.parametrize(
    ("fields", "compression", "ratio"),
    [
        ({}, "none", None),
        ({"gradient_compression": False}, "none", None),
        ({"gradient_compression": True}, "topk", 0.05),
        ({"gradient_compression": True, "compression_ratio": 0.5}, "topk", 0.5),
        ({"gradient_compression": True, "compression": "int8"}, "int8", None),
        ({"compression": "topk+int8", "compression_ratio": 0.03}, "topk+int8", 0.03),
        ({"compression": "fp16"}, "fp16", None),
    ],
)
def test_the_walkthroughs_words_map_onto_compressions(fields: dict[str, object], compression: str, ratio: float | None) -> None:
    found = spec(**fields)
    assert (found.compression, found.compression_ratio) == (compression, ratio)
    assert found.compression == compression
