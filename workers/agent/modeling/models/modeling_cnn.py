"""A convolutional text classifier (Kim, EMNLP 2014, arXiv:1408.5882) as a transformers model.

Every export of a `cnn` contains a copy of this file. So it imports only torch,
transformers, and another file of the export.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from .modeling_hashed_words import HashedWordModel, WithLinearPath


class CnnConfig(PretrainedConfig):
    model_type = "flow_nexus_cnn"

    def __init__(
        self,
        vocab_size: int = 1,
        embedding_size: int = 1,
        filters: int = 1,
        widths: Sequence[int] = (1,),
        dropout: float = 0.0,
        deep_tokens: int = 1,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.filters = filters
        self.widths = list(widths)
        self.dropout = dropout
        self.deep_tokens = deep_tokens
        super().__init__(**kwargs)


class CnnNetwork(HashedWordModel):
    """Convolutions of several widths over the words, with a maximum over the text.

    Padding is zero, like the positions beyond the ends of a text.
    """

    config_class = CnnConfig

    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding_size, config.filters, width, padding=width // 2) for width in config.widths
        )
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.filters * len(config.widths), len(config.id2label or {}))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Map ids and mask (texts, tokens), padded on the right, to logits (texts, classes)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        words = self.dropout(self.embeddings(input_ids)) * mask.unsqueeze(2)
        rows = words.transpose(1, 2)
        hidden = (1 - mask).unsqueeze(1).to(rows.dtype) * -1e4
        pooled = [(torch.relu(convolution(rows)) + hidden).amax(2) for convolution in self.convolutions]
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(torch.cat(pooled, dim=1))))


class CnnForSequenceClassification(WithLinearPath, CnnNetwork):
    """The network and a linear path beside it."""
