"""`transformer`: a BERT encoder (Devlin et al., NAACL 2019, arXiv:1810.04805), trained from scratch."""

from dataclasses import dataclass
from typing import Any

from torch import nn

POSITIONS = 512


@dataclass(frozen=True, slots=True)
class TransformerSize:
    layers: int
    width: int
    heads: int
    feed_forward: int


SIZES = {"base": TransformerSize(2, 128, 4, 512), "large": TransformerSize(4, 256, 4, 1024)}
DROPOUT = 0.2


def make(size: TransformerSize, max_length: int, common: dict[str, Any]) -> nn.Module:
    """`common`: vocab_size, pad_token_id and the names of the labels, as any transformers config takes them."""
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=size.feed_forward,
            max_position_embeddings=max_length,
            type_vocab_size=1,
            hidden_dropout_prob=DROPOUT,
            attention_probs_dropout_prob=0.0,
            **common,
        )
    )
