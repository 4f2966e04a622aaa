"""A bidirectional LSTM classifier (Hochreiter and Schmidhuber, 1997) as a transformers model.

Every export of an `rnn` contains a copy of this file. So it imports only torch,
transformers, and another file of the export.
"""

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from .modeling_hashed_words import HashedWordModel, WithLinearPath


class RnnConfig(PretrainedConfig):
    model_type = "flow_nexus_rnn"

    def __init__(
        self,
        vocab_size: int = 1,
        embedding_size: int = 1,
        hidden_size: int = 1,
        dropout: float = 0.0,
        deep_tokens: int = 1,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.deep_tokens = deep_tokens
        super().__init__(**kwargs)


class RnnNetwork(HashedWordModel):
    """Two LSTMs read the words forwards and backwards.

    A text is the mean of both outputs over its words, without padding.
    """

    config_class = RnnConfig

    def __init__(self, config: RnnConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.forwards = nn.LSTM(config.embedding_size, config.hidden_size, batch_first=True)
        self.backwards = nn.LSTM(config.embedding_size, config.hidden_size, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * config.hidden_size, len(config.id2label or {}))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Map ids and mask (texts, tokens), padded on the right, to logits (texts, classes)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        # The words of each text in reverse order. Padding stays at the end, so it affects no word.
        reversed_positions = torch.where(mask.bool(), mask.sum(1, keepdim=True) - 1 - positions, positions)
        words = self.dropout(self.embeddings(input_ids))
        reversed_words = torch.gather(words, 1, reversed_positions.unsqueeze(2).expand(-1, -1, words.shape[2]))
        both = torch.cat([self.forwards(words)[0], self.backwards(reversed_words)[0]], dim=2)
        weights = mask.unsqueeze(2).to(both.dtype)
        pooled = (both * weights).sum(1) / weights.sum(1).clamp_min(1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))


class RnnForSequenceClassification(WithLinearPath, RnnNetwork):
    """The network and a linear path beside it."""
