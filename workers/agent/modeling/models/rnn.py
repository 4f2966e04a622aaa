"""`rnn`: a small baseline, trained from scratch."""

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class RnnSize:
    embedding: int
    width: int


SIZES = {"base": RnnSize(128, 128), "large": RnnSize(256, 256)}
_DROPOUT = 0.3
CODE = "modeling_rnn.py"


def make(size: RnnSize, max_length: int, common: dict[str, Any]) -> nn.Module:
    """Build the model. `common` are the options of any transformers config."""
    from workers.agent.modeling.models.modeling_rnn import RnnConfig, RnnForSequenceClassification

    config = RnnConfig(embedding_size=size.embedding, hidden_size=size.width, dropout=_DROPOUT, **common)
    return RnnForSequenceClassification(config)
