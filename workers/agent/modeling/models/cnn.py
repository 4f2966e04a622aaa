"""`cnn`: a small baseline, trained from scratch."""

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class CnnSize:
    embedding: int
    filters: int


SIZES = {"base": CnnSize(128, 128), "large": CnnSize(256, 256)}
# Odd widths, so that a text has as many windows as words.
_WIDTHS = (1, 3, 5)
_DROPOUT = 0.5
CODE = "modeling_cnn.py"


def make(size: CnnSize, max_length: int, common: dict[str, Any]) -> nn.Module:
    """Build the model. `common` are the options of any transformers config."""
    from workers.agent.modeling.models.modeling_cnn import CnnConfig, CnnForSequenceClassification

    config = CnnConfig(embedding_size=size.embedding, filters=size.filters, widths=_WIDTHS, dropout=_DROPOUT, **common)
    return CnnForSequenceClassification(config)
